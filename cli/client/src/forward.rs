//! Local ports that lead to a guest, a pod or a screen.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A port can't be passed on.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Not a pair of ports.
    #[error("port {0:?} is not [LOCAL:]PORT with numbers of at most 65535")]
    NotAPort(String),
    /// Nobody listens on port 0.
    #[error("port {0:?}: the target must be 1 to 65535")]
    NoTarget(String),
    /// The local port is in use, or may not be used.
    #[error("local port {address}")]
    Local {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// One port to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Local port; 0 = a free one.
    pub local: u16,
    /// Port of the guest or pod.
    pub target: u16,
}

impl Port {
    /// Reads `[LOCAL:]PORT`.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(word: &str) -> Result<Self, ForwardError> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| ForwardError::NotAPort(word.to_owned()))
        };
        let port = match word.split_once(':') {
            Some(("", target)) => Self {
                local: 0,
                target: number(target)?,
            },
            Some((local, target)) => Self {
                local: number(local)?,
                target: number(target)?,
            },
            None => Self {
                local: number(word)?,
                target: number(word)?,
            },
        };
        if port.target == 0 {
            return Err(ForwardError::NoTarget(word.to_owned()));
        }
        Ok(port)
    }
}

/// Listens on the address.
///
/// # Errors
/// When the port is in use.
pub async fn listen(address: IpAddr, port: u16) -> Result<(TcpListener, SocketAddr), ForwardError> {
    let address = SocketAddr::new(address, port);
    let local = |source| ForwardError::Local { address, source };
    let listener = TcpListener::bind(address).await.map_err(local)?;
    let bound = listener.local_addr().map_err(local)?;
    Ok((listener, bound))
}

/// Opens a stream for each connection, for ever.
///
/// # Errors
/// When the listener fails. A stream that can't be opened costs its connection only.
pub async fn pass_on<O, F, S, E>(listener: TcpListener, open: O) -> Result<(), ForwardError>
where
    O: Fn() -> F,
    F: Future<Output = Result<S, E>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: std::error::Error + Send,
{
    let mut connections = JoinSet::new();
    loop {
        let (mut local, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(source) => {
                let any = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
                let address = listener.local_addr().unwrap_or(any);
                return Err(ForwardError::Local { address, source });
            }
        };
        while connections.try_join_next().is_some() {}
        let opened = open();
        connections.spawn(async move {
            match opened.await {
                Ok(mut remote) => {
                    let _ = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
                }
                Err(error) => eprintln!("connection from {peer}: {}", crate::chain(&error)),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn ports_are_read_and_nonsense_is_refused() {
        let port = |local, target| Port { local, target };
        assert_eq!(Port::parse("80").unwrap(), port(80, 80));
        assert_eq!(Port::parse("8080:80").unwrap(), port(8080, 80));
        assert_eq!(Port::parse(":80").unwrap(), port(0, 80));
        for nonsense in ["", "a", "80:", "0", "1:0", "70000"] {
            assert!(Port::parse(nonsense).is_err(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn each_connection_gets_a_stream_of_its_own() {
        let (listener, address) = listen(IpAddr::from([127, 0, 0, 1]), 0).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(pass_on(listener, || async {
            let (near, mut far) = tokio::io::duplex(64);
            far.write_all(b"hello").await?;
            Ok::<_, io::Error>(near)
        }));
        for _ in 0..2 {
            let mut said = String::new();
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "hello");
        }
    }
}
