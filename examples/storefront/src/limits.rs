//! How often a visitor may do what: a limit for the user and one for the address, asked together, so that a call
//! that one of them denies takes nothing from the other.

use std::time::Duration;

use axum::http::StatusCode;
use redkit::Client;
use redkit::ratelimit::{DecidedBy, Error, LimitSet, OnOutage, Policy, Quota, RateLimiter};

use crate::context::{self, Pattern};
use crate::refusal::Refusal;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    SignIn,
    Register,
    Products,
    Orders,
}

/// How many units a user has, and how many times as many an address, behind which there may be several users.
struct Allowance {
    name: &'static str,
    quota: Quota,
    addresses: u64,
    on_outage: OnOutage,
    /// How long a visitor waits for the decision.
    patience: Duration,
}

/// Whoever signs in would rather wait than be turned away.
const LONG: Duration = Duration::from_secs(2);

/// Whoever looks around would rather not.
const SHORT: Duration = Duration::from_millis(100);

impl Endpoint {
    fn allowance(self) -> Allowance {
        match self {
            // Closed: while nothing can be counted nobody guesses passwords.
            Endpoint::SignIn => Allowance {
                name: "sign-in",
                quota: Quota::per(5, Duration::from_secs(300)),
                addresses: 10,
                on_outage: OnOutage::Closed,
                patience: LONG,
            },
            Endpoint::Register => Allowance {
                name: "register",
                quota: Quota::per_hour(3),
                addresses: 1,
                on_outage: OnOutage::Closed,
                patience: LONG,
            },
            // Open: a shop that sells to everybody is better than one that sells to nobody.
            Endpoint::Products => Allowance {
                name: "products",
                quota: Quota::per_minute(100),
                addresses: 10,
                on_outage: OnOutage::Open,
                patience: SHORT,
            },
            Endpoint::Orders => Allowance {
                name: "orders",
                quota: Quota::per_minute(50),
                addresses: 10,
                on_outage: OnOutage::Open,
                patience: SHORT,
            },
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Endpoint::SignIn => {
                "There were too many attempts to sign in. Whoever tries out passwords has to wait, and so do you, \
                 also with the right one."
            }
            Endpoint::Register => "Three accounts an hour from one address are enough.",
            Endpoint::Products => "You are looking at more than a hundred pages a minute.",
            Endpoint::Orders => "You are ordering more than fifty times a minute.",
        }
    }
}

/// The limiters of one endpoint.
#[derive(Clone)]
struct Pair {
    /// The tag that puts both into one slot of a cluster, so that one step decides.
    tag: &'static str,
    user: RateLimiter,
    address: RateLimiter,
}

/// The limits of every endpoint.
#[derive(Clone)]
pub(crate) struct Limits {
    sign_in: Pair,
    register: Pair,
    products: Pair,
    orders: Pair,
}

impl Limits {
    /// The limits in the client's namespace.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn new(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            sign_in: Pair::new(client, Endpoint::SignIn)?,
            register: Pair::new(client, Endpoint::Register)?,
            products: Pair::new(client, Endpoint::Products)?,
            orders: Pair::new(client, Endpoint::Orders)?,
        })
    }

    /// Takes a unit of both, if there is one of both.
    ///
    /// # Errors
    /// 429, with the time to wait.
    pub(crate) async fn check(
        &self,
        endpoint: Endpoint,
        user: Option<&str>,
        address: &[u8],
    ) -> Result<(), Refusal> {
        let pair = match endpoint {
            Endpoint::SignIn => &self.sign_in,
            Endpoint::Register => &self.register,
            Endpoint::Products => &self.products,
            Endpoint::Orders => &self.orders,
        };
        let mut set = LimitSet::new().limit(&pair.address, address);
        if let Some(user) = user {
            set = set.limit(&pair.user, user);
        }
        let decision = match set.tag(pair.tag).check().await {
            Ok(decided) => decided.decision,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no limit was asked"
                );
                let detail = "The shop cannot count just now. Please try again.";
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail));
            }
        };
        let (left, limit) = (decision.remaining(), decision.limit());
        context::note(
            Pattern::Limit,
            match decision.is_allowed() {
                true => format!(
                    "{}: {left} of {limit} left ({})",
                    pair.tag,
                    decision.policy()
                ),
                false => format!("{}: denied ({})", pair.tag, decision.policy()),
            },
        );
        if decision.is_allowed() {
            return Ok(());
        }
        if decision.decided_by() == DecidedBy::Closed {
            let detail = "Nobody can sign in just now. Please try again in a moment.";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            return Err(refusal.retry_after(Duration::from_secs(1)));
        }
        let wait = decision.retry_after();
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, endpoint.detail());
        Err(refusal.retry_after(wait))
    }
}

impl Pair {
    fn new(client: &Client, endpoint: Endpoint) -> Result<Self, Error> {
        let Allowance {
            name,
            quota,
            addresses,
            on_outage,
            patience,
        } = endpoint.allowance();
        let limiter = |whose: &str, quota| {
            RateLimiter::builder(client, &format!("{name}-{whose}"))
                .policy(Policy::sliding_log(quota))
                .on_outage(on_outage.clone())
                .decision_timeout(patience)
                .build()
        };
        let address = Quota::per(quota.limit() * addresses, quota.window());
        Ok(Self {
            tag: name,
            user: limiter("user", quota)?,
            address: limiter("address", address)?,
        })
    }
}
