//! The program `redkit`: see the library's documentation, or `redkit --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    redkit_cli::main()
}
