//! Asking before something is lost.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::args::Consent;
use crate::failure::Failure;

/// Asks whether `what` is to be done, unless that was said on the command line.
///
/// # Errors
/// A usage failure where nobody can be asked, and when the answer is no.
pub(crate) fn confirm(consent: Consent, what: &str) -> Result<(), Failure> {
    if consent.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            format!("{what} loses something, and there is no terminal to ask on"),
            "add --yes to do it without being asked",
        ));
    }
    eprint!("{what}? Type `yes` to do it: ");
    // A terminal that takes no output will give no answer either.
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read {
        Ok(_) if answer.trim().eq_ignore_ascii_case("yes") => Ok(()),
        _ => Err(Failure::usage(
            "it was not confirmed; nothing was done",
            "answer `yes`, or add --yes",
        )),
    }
}
