//! The pages with which a session gets its user.

use maud::{Markup, html};

use super::layout;
use crate::accounts::{DEMO, DEMO_PASSWORD};

pub(crate) fn sign_in(next: &str, problem: Option<&str>) -> Markup {
    let content = html! {
        div.narrow {
            h1 { "Sign in" }
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            form.stacked method="post" action="/sign-in" {
                input type="hidden" name="next" value=(next);
                label {
                    "User name"
                    input name="name" required autocomplete="username" autocapitalize="none" maxlength="32";
                }
                label {
                    "Password"
                    input type="password" name="password" required autocomplete="current-password"
                        maxlength="200";
                }
                button type="submit" { "Sign in" }
            }
            p { "New here? " a href="/register" { "Make an account" } "." }
            aside.hint {
                p {
                    "This is a demonstration: "
                    @for (index, (name, _, _)) in DEMO.iter().enumerate() {
                        @if index > 0 { ", " }
                        code { (name) }
                    }
                    " are there, the last of them works here. All have the password "
                    code { (DEMO_PASSWORD) } "."
                }
                p {
                    "The cookie has the prefix " code { "__Host-" } ", so browsers keep it on "
                    code { "localhost" } " and over TLS only. Five attempts in five minutes are what a name has."
                }
            }
        }
    };
    layout::page("Sign in", content)
}

pub(crate) fn register(problem: Option<&str>) -> Markup {
    let content = html! {
        div.narrow {
            h1 { "Make an account" }
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            form.stacked method="post" action="/register" {
                label {
                    "User name"
                    input name="name" required autocomplete="username" autocapitalize="none"
                        minlength="2" maxlength="32" pattern="[A-Za-z0-9_\\-]+";
                }
                label {
                    "Password, 8 characters at least"
                    input type="password" name="password" required autocomplete="new-password"
                        minlength="8" maxlength="200";
                }
                label {
                    "Your name"
                    input name="full_name" required autocomplete="name" maxlength="100";
                }
                label {
                    "Where parcels go"
                    input name="address" required autocomplete="street-address" maxlength="300";
                }
                button type="submit" { "Make it" }
            }
            p.soft { "Name and address stand encrypted in the cache." }
        }
    };
    layout::page("Make an account", content)
}
