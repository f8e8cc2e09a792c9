//! The `kronos` command.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = kronos::cli::Cli::parse();
    actix_web::rt::System::new().block_on(kronos::cli::run(arguments))
}
