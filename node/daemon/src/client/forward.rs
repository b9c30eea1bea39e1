//! Local ports that lead to a guest, a pod or a screen.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::http::{Client, ClientError};

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
    pub fn parse(word: &str) -> Result<Self, ClientError> {
        let number = |text: &str| {
            text.parse().map_err(|_| {
                ClientError::Usage(format!(
                    "port {word:?} is not [LOCAL:]PORT with numbers of at most 65535"
                ))
            })
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
            return Err(ClientError::Usage(format!(
                "port {word:?}: the target must be 1 to 65535"
            )));
        }
        Ok(port)
    }
}

/// Listens on the address.
///
/// # Errors
/// When the port is in use.
pub async fn listen(address: IpAddr, port: u16) -> Result<(TcpListener, SocketAddr), ClientError> {
    let wanted = SocketAddr::new(address, port);
    let listener = TcpListener::bind(wanted)
        .await
        .map_err(ClientError::io(format!("local port {wanted}")))?;
    let bound = listener
        .local_addr()
        .map_err(ClientError::io("local port"))?;
    Ok((listener, bound))
}

/// Opens a stream to the daemon for each connection, for ever.
///
/// # Errors
/// When the listener fails.
pub async fn pass_on(
    listener: TcpListener,
    client: Client,
    path: String,
) -> Result<(), ClientError> {
    let mut connections = JoinSet::new();
    loop {
        let (mut local, peer) = listener
            .accept()
            .await
            .map_err(ClientError::io("local port"))?;
        while connections.try_join_next().is_some() {}
        let (client, path) = (client.clone(), path.clone());
        connections.spawn(async move {
            match client.upgrade(&path).await {
                Ok(mut remote) => {
                    let _ = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
                }
                Err(error) => eprintln!(
                    "connection from {peer}: {}",
                    catamaran_client::chain(&error)
                ),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_nonsense_is_refused() {
        assert_eq!(
            Port::parse("80").unwrap(),
            Port {
                local: 80,
                target: 80
            }
        );
        assert_eq!(
            Port::parse("8080:80").unwrap(),
            Port {
                local: 8080,
                target: 80
            }
        );
        assert_eq!(
            Port::parse(":80").unwrap(),
            Port {
                local: 0,
                target: 80
            }
        );
        for nonsense in ["", "a", "80:", "0", "1:0", "70000"] {
            assert!(Port::parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
