//! How handed-off sessions end.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use gateway_tests::wait;

use super::{Direct, PATIENCE, directly, on_router};
use crate::router::FAMILIES;
/// What a read or a write at the end of a connection fails with, once it does.
fn failure(mut end: &TcpStream) -> anyhow::Result<std::io::ErrorKind> {
    wait::until(PATIENCE, "an error", || {
        Ok(end.write_all(b"x").and_then(|()| end.read(&mut [0])).err().map(|error| error.kind()))
    })
}

#[test]
fn a_reset_reaches_the_other_end() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            for by_client in [true, false] {
                let Direct { client, served } = directly(&mut router, family)?;
                let (resets, meets) = if by_client { (client, served) } else { (served, client) };
                socket2::SockRef::from(&resets).set_linger(Some(Duration::ZERO))?;
                drop(resets);
                ensure!(failure(&meets)? == std::io::ErrorKind::ConnectionReset);
            }
        }
        Ok(())
    })
}

#[test]
fn both_ends_may_close_in_any_order_or_at_once() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            for client_first in [true, false] {
                directly(&mut router, family)?.close(client_first)?;
            }
            let Direct { client, served } = directly(&mut router, family)?;
            std::thread::scope(|scope| {
                let ends = [&client, &served].map(|end| {
                    scope.spawn(move || {
                        let mut end = end;
                        end.shutdown(Shutdown::Write)?;
                        end.read(&mut [0])
                    })
                });
                for end in ends {
                    ensure!(end.join().expect("does not panic")? == 0, "no end");
                }
                anyhow::Ok(())
            })?;
        }
        Ok(())
    })
}
