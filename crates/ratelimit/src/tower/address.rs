//! [`ClientAddress`]: a client is told by its address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Extensions;
use http::request::Parts;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use redkit_core::ConfigError;

use super::forwarded::{Source, hops};
use super::key::KeyExtractor;
use crate::error::Error;

/// The client's address: the peer's or, when that is a trusted proxy, the nearest address that is
/// not, as the proxies say it. IPv6 addresses count by their /64, since a client has a whole one;
/// an IPv4 address in IPv6 clothes counts as IPv4.
///
/// A proxy adds the address of its caller at the **right** end of the header. What stands
/// further left than the first address that is not a trusted proxy came from the client, who may
/// have made it up, and is not looked at. Without [`trusting`](Self::trusting) no header is.
///
/// The peer's address is taken from the request's extensions: axum's `ConnectInfo<SocketAddr>` (with
/// the feature `axum`), or a plain `SocketAddr`. [`peer_from`](Self::peer_from) is for everything
/// else. axum puts it there only when the router is served with
/// `into_make_service_with_connect_info::<SocketAddr>()`; otherwise each request is answered with 500,
/// and the log says what to change.
#[derive(Clone)]
pub struct ClientAddress {
    trusted: Vec<IpNet>,
    source: Source,
    v4_prefix: u8,
    v6_prefix: u8,
    /// Where the peer's address is; `None`: where axum and this crate put it.
    peer_from: Option<Arc<PeerFrom>>,
}

type PeerFrom = dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync;

impl Default for ClientAddress {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            source: Source::XForwardedFor,
            v4_prefix: 32,
            v6_prefix: 64,
            peer_from: None,
        }
    }
}

impl ClientAddress {
    /// The peer's address.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts proxies with these addresses (`10.0.0.7`, `10.0.0.0/8`, `fd00::/8`) to name their
    /// callers, by `X-Forwarded-For`. Name your own proxies only.
    ///
    /// # Errors
    /// [`Error::Core`] when one is neither an address nor a network.
    pub fn trusting<'a>(
        mut self,
        proxies: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        for proxy in proxies {
            let network = proxy
                .parse::<IpNet>()
                .or_else(|_| proxy.parse::<IpAddr>().map(IpNet::from))
                .map(canonical)
                .map_err(|_| {
                    ConfigError::new(
                        "trusting",
                        format!("`{proxy}` is neither an address nor a network"),
                        "write it like 10.0.0.7 or 10.0.0.0/8",
                    )
                })?;
            self.trusted.push(network);
        }
        Ok(self)
    }

    /// Reads `Forwarded` (RFC 7239) instead of `X-Forwarded-For`. Only one of them is ever read,
    /// because the other may come from the client.
    #[must_use]
    pub fn by_forwarded(mut self) -> Self {
        self.source = Source::Forwarded;
        self
    }

    /// Counts IPv6 addresses by prefixes of another length. Default: 64.
    ///
    /// # Errors
    /// [`Error::Core`] for a length over 128.
    pub fn v6_prefix(mut self, length: u8) -> Result<Self, Error> {
        check_prefix("v6_prefix", length, 128)?;
        self.v6_prefix = length;
        Ok(self)
    }

    /// Counts IPv4 addresses by prefixes of another length. Default: 32.
    ///
    /// # Errors
    /// [`Error::Core`] for a length over 32.
    pub fn v4_prefix(mut self, length: u8) -> Result<Self, Error> {
        check_prefix("v4_prefix", length, 32)?;
        self.v4_prefix = length;
        Ok(self)
    }

    /// Says where the peer's address is, such as in tonic's `TcpConnectInfo`.
    #[must_use]
    pub fn peer_from(
        mut self,
        peer: impl Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        self.peer_from = Some(Arc::new(peer));
        self
    }

    /// The client's address, whole.
    pub fn of(&self, request: &Parts) -> Option<IpAddr> {
        let mut client = self.peer(&request.extensions)?.ip().to_canonical();
        if !self.is_trusted(client) {
            return Some(client);
        }
        for hop in hops(&request.headers, self.source) {
            // The proxy that wrote something else than an address is the last hop that is known.
            let Some(hop) = hop else { break };
            client = hop.to_canonical();
            if !self.is_trusted(client) {
                break;
            }
        }
        Some(client)
    }

    fn peer(&self, extensions: &Extensions) -> Option<SocketAddr> {
        match &self.peer_from {
            Some(peer_from) => peer_from(extensions),
            None => usual_peer(extensions),
        }
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }

    fn network(&self, address: IpAddr) -> Option<IpNet> {
        let network = match address {
            IpAddr::V4(address) => Ipv4Net::new(address, self.v4_prefix).ok()?.trunc().into(),
            IpAddr::V6(address) => Ipv6Net::new(address, self.v6_prefix).ok()?.trunc().into(),
        };
        Some(network)
    }
}

impl KeyExtractor for ClientAddress {
    fn key(&self, request: &Parts) -> Option<Vec<u8>> {
        let network = self.network(self.of(request)?)?;
        let text = match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        Some(text.into_bytes())
    }

    /// Every request has a peer: where its address is missing, nobody put it there.
    fn setup_mistake(&self, request: &Parts) -> Option<&'static str> {
        if self.peer(&request.extensions).is_some() {
            return None;
        }
        Some(match self.peer_from {
            Some(_) => "the function of `ClientAddress::peer_from` found no address",
            None => {
                "the peer's address is missing: serve an axum router with \
                 `axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())`, \
                 or say where the address is with `ClientAddress::peer_from`"
            }
        })
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAddress")
            .field("trusted", &self.trusted)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// A network of IPv4 addresses in IPv6 clothes as IPv4, which is how addresses are compared.
fn canonical(network: IpNet) -> IpNet {
    const CLOTHES: u8 = 96;
    match network {
        IpNet::V6(v6) => v6
            .addr()
            .to_ipv4_mapped()
            .zip(v6.prefix_len().checked_sub(CLOTHES))
            .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
            .map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
    }
}

fn check_prefix(field: &'static str, length: u8, longest: u8) -> Result<(), ConfigError> {
    match length <= longest {
        true => Ok(()),
        false => Err(ConfigError::new(
            field,
            "it is longer than an address",
            format!("give at most {longest}"),
        )),
    }
}

fn usual_peer(extensions: &Extensions) -> Option<SocketAddr> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(peer)) = extensions.get() {
        return Some(*peer);
    }
    extensions.get().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(addresses: &ClientAddress, peer: &str, header: (&'static str, &str)) -> String {
        let peer = SocketAddr::new(peer.parse().unwrap(), 1234);
        let request = http::Request::builder()
            .header(header.0, header.1)
            .extension(peer);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        String::from_utf8(addresses.key(&parts).unwrap()).unwrap()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_from_the_right_end() {
        let nobody = ClientAddress::new();
        let proxies = ClientAddress::new()
            .trusting(["10.0.0.0/8", "fd00::1"])
            .unwrap();
        let forwarded = |addresses: &ClientAddress, peer: &str, hops: &str| {
            key(addresses, peer, ("x-forwarded-for", hops))
        };
        assert_eq!(forwarded(&nobody, "10.0.0.1", "1.1.1.1"), "10.0.0.1");
        assert_eq!(
            forwarded(&proxies, "9.9.9.9", "1.1.1.1"),
            "9.9.9.9",
            "not from a proxy"
        );
        assert_eq!(forwarded(&proxies, "10.0.0.1", "1.1.1.1"), "1.1.1.1");
        assert_eq!(
            forwarded(&proxies, "10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2"),
            "1.1.1.1",
            "what the client made up stands at the left"
        );
        assert_eq!(forwarded(&proxies, "::ffff:10.0.0.1", "1.1.1.1"), "1.1.1.1");
        assert_eq!(forwarded(&proxies, "fd00::1", "1.1.1.1, junk"), "fd00::/64");
        assert_eq!(
            forwarded(&proxies, "10.0.0.1", "10.0.0.3, 10.0.0.2"),
            "10.0.0.3"
        );
        for clothed in ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "::ffff:a00:1/128"] {
            let proxies = ClientAddress::new().trusting([clothed]).unwrap();
            for peer in ["10.0.0.1", "::ffff:10.0.0.1"] {
                assert_eq!(forwarded(&proxies, peer, "1.1.1.1"), "1.1.1.1", "{clothed}");
            }
            assert_eq!(forwarded(&proxies, "11.0.0.1", "1.1.1.1"), "11.0.0.1");
        }
        let all_v6 = ClientAddress::new().trusting(["::/0"]).unwrap();
        assert_eq!(forwarded(&all_v6, "10.0.0.1", "1.1.1.1"), "10.0.0.1");
        assert_eq!(
            key(&proxies, "10.0.0.1", ("forwarded", "for=1.1.1.1")),
            "10.0.0.1",
            "the header that the proxies do not write is not read"
        );
        let other = proxies.by_forwarded();
        assert_eq!(
            key(&other, "10.0.0.1", ("forwarded", "for=1.1.1.1")),
            "1.1.1.1"
        );
        assert_eq!(
            key(&other, "10.0.0.1", ("x-forwarded-for", "1.1.1.1")),
            "10.0.0.1"
        );
    }

    #[test]
    fn ipv6_counts_by_network_and_mapped_ipv4_as_ipv4() {
        let of = |addresses: &ClientAddress, peer| key(addresses, peer, ("x", ""));
        let plain = ClientAddress::new();
        assert_eq!(of(&plain, "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(of(&plain, "2001:db8:1:2:ffff::1"), "2001:db8:1:2::/64");
        assert_eq!(of(&plain, "::ffff:192.0.2.7"), "192.0.2.7");
        let wide = ClientAddress::new()
            .v6_prefix(48)
            .unwrap()
            .v4_prefix(24)
            .unwrap();
        assert_eq!(of(&wide, "2001:db8:1:2::1"), "2001:db8:1::/48");
        assert_eq!(of(&wide, "192.0.2.7"), "192.0.2.0/24");
    }

    #[test]
    fn a_malformed_network_is_refused() {
        let error = ClientAddress::new().trusting(["10.0.0.0/33"]).unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/33"), "{error}");
        assert!(ClientAddress::new().v6_prefix(129).is_err());
        assert!(ClientAddress::new().v4_prefix(33).is_err());
    }
}
