use gateway::datapath::object::{Kernel, Settings};
fn main() {
    let debug = std::env::args().nth(1).as_deref() == Some("debug");
    let mut s = Settings::from(&gateway::config::file::Intercept::default());
    s.debug = debug;
    match Kernel::load(&s) {
        Err(e) => {
            let mut e: &dyn std::error::Error = &e;
            loop {
                println!("{e}");
                match e.source() {
                    Some(n) => e = n,
                    None => break,
                }
            }
        }
        Ok(mut k) => {
            println!("verified {:?}", k.verified_instructions());
            println!("self_test {:?}", k.self_test());
            for c in k.counters().unwrap() {
                if c.1 > 0 {
                    println!("{c:?}");
                }
            }
        }
    }
}
