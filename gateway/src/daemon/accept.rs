//! Connections from the listeners that the datapath process has handed over.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::threads::Places;
use crate::session::{self, Context};
use crate::telemetry::Trouble;
use crate::under_way::Place;

/// Pause after the kernel could not give a connection, which is for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes a listener ready for the runtime that is to watch it.
///
/// # Errors
///
/// When the runtime cannot.
pub(super) fn listener(listener: StdListener, runtime: &Handle) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Its connections inherit it, which spares each of them the call.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    let _inside = runtime.enter();
    TcpListener::from_std(listener)
}

/// Takes connections from the listener at `address` until the task is dropped, and spreads them over the
/// `threads`, of which this is one.
pub(super) async fn run(
    listener: TcpListener,
    address: SocketAddr,
    context: Arc<Context>,
    threads: Places,
    place: Place,
) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let serve = {
                    let (context, place) = (Arc::clone(&context), place.clone());
                    move |stream| serve(stream, client, address, context, place)
                };
                let thread = threads.least_busy();
                if thread.id() == Handle::current().id() {
                    thread.spawn(serve(Ok(stream)));
                } else {
                    // Whoever serves it watches it, too.
                    let stream = stream.into_std();
                    thread.spawn(async move { serve(stream.and_then(TcpStream::from_std)).await });
                }
            }
            Err(error) => {
                context.telemetry.trouble(Trouble::Internal, || format!("accept: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: io::Result<TcpStream>,
    client: SocketAddr,
    listener: SocketAddr,
    context: Arc<Context>,
    place: Place,
) {
    match stream {
        Ok(stream) => session::serve(stream, client, listener, context, place).await,
        Err(error) => context.telemetry.trouble(Trouble::Internal, || format!("accept: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_to_a_connection_is_not_held_back() {
        let listener = listener(StdListener::bind("127.0.0.1:0").unwrap(), &Handle::current()).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, peer) = accepted.unwrap();
        assert_eq!(client.unwrap().local_addr().unwrap(), peer);
        assert!(stream.nodelay().unwrap());
    }
}
