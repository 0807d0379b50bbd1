//! Connections from the listeners that the datapath process has handed over.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::session::{self, Context};
use crate::telemetry::Trouble;
use crate::under_way::Place;

/// Pause after the kernel could not give a connection, which is for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes a listener ready for the runtime.
///
/// # Errors
///
/// When the runtime cannot watch it.
pub(super) fn listener(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Its connections inherit it, which spares each of them the call.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    TcpListener::from_std(listener)
}

/// Takes connections from the listener at `address` until the task is dropped.
pub(super) async fn run(listener: TcpListener, address: SocketAddr, context: Arc<Context>, place: Place) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let (context, place) = (Arc::clone(&context), place.clone());
                tokio::spawn(async move {
                    session::serve(stream, client, address, context).await;
                    drop(place);
                });
            }
            Err(error) => {
                context.telemetry.trouble(Trouble::Internal, || format!("accept: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_to_a_connection_is_not_held_back() {
        let listener = listener(StdListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let (stream, peer) = accepted.unwrap();
        assert_eq!(client.unwrap().local_addr().unwrap(), peer);
        assert!(stream.nodelay().unwrap());
    }
}
