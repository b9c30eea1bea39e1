//! A set of BMCs in this process.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::bmc::{Bmc, Options};
use crate::handle::Handle;
use crate::server::serve;
use crate::tls::Certificate;

/// BMCs that are served until this is dropped.
#[derive(Debug, Default)]
pub struct Mock {
    handles: Vec<Handle>,
    servers: JoinSet<()>,
}

/// Why a mock can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    /// The address can't be listened on.
    #[error("listening on {address} for the BMC '{name}'")]
    Listen {
        /// Name of the BMC.
        name: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate can't be made or used.
    #[error("certificate: {0}")]
    Certificate(String),
}

impl Mock {
    /// A mock without any BMC.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a BMC; with a certificate it speaks TLS only.
    ///
    /// # Errors
    /// When its address can't be listened on, or the certificate can't be used.
    pub async fn add(
        &mut self,
        options: Options,
        certificate: Option<&Certificate>,
    ) -> Result<Handle, MockError> {
        let failed = |source| MockError::Listen {
            name: options.name.clone(),
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = match certificate {
            Some(certificate) => Some(TlsAcceptor::from(certificate.server()?)),
            None => None,
        };
        let handle = Handle {
            bmc: Bmc::new(options),
            address,
            tls: tls.is_some(),
        };
        self.servers
            .spawn(serve(handle.bmc.clone(), listener, address, tls));
        self.handles.push(handle.clone());
        Ok(handle)
    }

    /// All BMCs.
    #[must_use]
    pub fn bmcs(&self) -> &[Handle] {
        &self.handles
    }

    /// The BMC of this name.
    #[must_use]
    pub fn bmc(&self, name: &str) -> Option<&Handle> {
        self.handles.iter().find(|handle| handle.name() == name)
    }
}
