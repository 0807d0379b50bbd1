//! What the linker is told beside the flags of the build.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
}
