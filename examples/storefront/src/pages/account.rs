//! A customer's own page: name and address, and the devices that are signed in.

use maud::{Markup, html};
use redkit::session::{SessionHandle, SessionInfo};

use super::{ago, layout};
use crate::accounts::Profile;

pub(crate) fn account(profile: &Profile, devices: &[SessionInfo], own: &SessionHandle) -> Markup {
    let content = html! {
        h1 { "Your account" }
        div.columns {
            section aria-labelledby="personal" {
                h2 id="personal" { "Name and address" }
                form.stacked method="post" action="/account" {
                    label {
                        "Your name"
                        input name="full_name" required autocomplete="name" maxlength="100"
                            value=(profile.full_name);
                    }
                    label {
                        "Where parcels go"
                        input name="address" required autocomplete="street-address" maxlength="300"
                            value=(profile.address);
                    }
                    button type="submit" { "Save" }
                }
            }
            section aria-labelledby="devices" {
                h2 id="devices" { "Your devices" }
                ul.devices {
                    @for device in devices {
                        li {
                            div {
                                strong { (device.device) }
                                @if device.handle == *own { " " span.badge { "this one" } }
                                p.soft {
                                    "Signed in " (ago(device.created_at)) ", last seen "
                                    (ago(device.last_seen))
                                }
                            }
                            @if device.handle != *own {
                                form method="post" action="/account/devices/revoke" {
                                    input type="hidden" name="handle" value=(device.handle.as_str());
                                    button.quiet type="submit"
                                        aria-label={ "Sign out " (device.device) ", signed in " (ago(device.created_at)) } {
                                        "Sign out"
                                    }
                                }
                            }
                        }
                    }
                }
                @if devices.len() > 1 {
                    form method="post" action="/account/devices/revoke-others" {
                        button type="submit" { "Sign out all others" }
                    }
                }
            }
        }
        form method="post" action="/sign-out" { button.quiet type="submit" { "Sign out here" } }
    };
    layout::page("Your account", content)
}
