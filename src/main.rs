//! The binary: parse, run, exit code.

mod cli;
mod telemetry;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::read_arguments();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(cli::run(arguments));
            runtime.shutdown_background();
            code
        }
        Err(error) => cli::no_runtime(&error),
    }
}
