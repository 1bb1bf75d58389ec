//! Tells the binary which compiler made it, for which target, and from which commit, where that is known.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=THROUGHLINE_COMMIT");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = output(&variable("RUSTC"), &["--version"]).unwrap_or_else(|| "rustc".to_owned());
    println!("cargo::rustc-env=THROUGHLINE_BUILD_RUSTC={rustc}");
    println!("cargo::rustc-env=THROUGHLINE_BUILD_TARGET={}", variable("TARGET"));
    let named = Some(variable("THROUGHLINE_COMMIT")).filter(|commit| !commit.is_empty());
    // In a debug build every commit would build everything anew.
    let commit = named.or_else(|| if variable("PROFILE") == "release" { head() } else { None });
    println!(
        "cargo::rustc-env=THROUGHLINE_BUILD_COMMIT={}",
        commit.unwrap_or_default()
    );
}

/// The commit that is checked out, if this is the project's own repository; looked at again when it changes.
fn head() -> Option<String> {
    let root = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let top = output("git", &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&root).canonicalize().ok()? {
        return None;
    }
    let branch = output("git", &["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD".to_owned(), "packed-refs".to_owned()].into_iter().chain(branch) {
        let path = output("git", &["rev-parse", "--git-path", &name]).filter(|path| Path::new(path).exists());
        if let Some(path) = path {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    output("git", &["rev-parse", "--short=12", "HEAD"])
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
