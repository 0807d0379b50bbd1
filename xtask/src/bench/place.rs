//! Where and of what numbers were made.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use gateway_tests::process;

/// The day, the kernel, the processors and the build of the gateway, in a line.
pub(super) fn about(binary: &Path) -> anyhow::Result<String> {
    let day = process::done(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let kernel = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let processors = fs::read_to_string("/proc/cpuinfo").context("no processors")?;
    let field = |name: &str| {
        let line = processors.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    // Not every architecture names its processors.
    let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let is_virtual = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let machine = if is_virtual { "virtual machine, " } else { "" };
    let version = process::done(Command::new(binary).arg("--version"))?;
    // As Cargo names the folders of its profiles.
    let build = match binary.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
        Some("release") => ", release build",
        Some("debug") => ", debug build",
        _ => "",
    };
    Ok(format!("{}, Linux {kernel}, {machine}{count} \u{d7} {model}, {}{build}", day.trim(), version.trim()))
}
