//! What the tool tells its user.

/// Something begins that may take a while.
pub(crate) fn doing(what: &str) {
    line(&format!("==> {what}"));
}

/// Something was there already, or is finished.
pub(crate) fn fine(what: &str) {
    line(&format!("  ok {what}"));
}

/// One line as it is.
#[expect(clippy::print_stdout, reason = "this tool talks to its user")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Why the verb failed.
#[expect(clippy::print_stderr, reason = "this tool talks to its user")]
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("xtask: {error:#}");
}
