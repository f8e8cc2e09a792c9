//! The `kronos` command.

use std::process::ExitCode;

use clap::Parser as _;

/// Gives memory back that sessions leave when they fall asleep; its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = kronos::cli::Cli::parse();
    actix_web::rt::System::new().block_on(kronos::cli::run(arguments))
}
