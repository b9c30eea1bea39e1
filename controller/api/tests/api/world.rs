//! Everything together: fake API server, mock daemon, the API part, and a client that comes through the front proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catamaran_baremetal::Bmcs;
use catamaran_console::Kubernetes;
use catamaran_controller_api::{ApiConfig, serve};
use catamaran_redfish::Limits;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::daemon::{self, Asked};

/// A certificate authority of the test, or the API part's own.
#[derive(Clone)]
pub(crate) struct Pki {
    certificate: String,
    key: String,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "front-proxy-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    fn sign(&self, params: &CertificateParams) -> Signed {
        let issuer =
            Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key).unwrap())
                .unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    pub(crate) fn server(&self, name: &str) -> Signed {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    fn client(&self, name: &str) -> Signed {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }
}

type Signed = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The world.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// What the daemon was asked.
    pub(crate) asked: Asked,
    proxy: Pki,
    address: SocketAddr,
    _shutdown: tokio_util::sync::DropGuard,
    _tasks: JoinSet<()>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text))
    }
}

const SECRETS: &str = "/api/v1/namespaces/catamaran-system/secrets";

impl World {
    pub(crate) async fn new() -> Self {
        let (cluster, proxy) = (Cluster::default(), Pki::new());
        cluster.put(
            "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
            json!({"metadata": {"name": "extension-apiserver-authentication"}, "data": {
                "requestheader-client-ca-file": proxy.certificate,
                "requestheader-allowed-names": r#"["front-proxy-client"]"#,
            }}),
        );
        cluster.put(
            "/api/v1/nodes/n1",
            json!({"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}}),
        );
        let nodes = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free_address().await;
        let shutdown = CancellationToken::new();
        let (_leader, leads) = watch::channel(true);
        let config = ApiConfig {
            client: cluster.client(),
            console: Kubernetes::at(&kube::Config::new("http://127.0.0.1:1".parse().unwrap())),
            oidc: None,
            grafana: None,
            namespace: "catamaran-system".to_owned(),
            listen: address,
            bmcs: Arc::new(Bmcs::new(Limits::default())),
            node_port: nodes.local_addr().unwrap().port(),
            leader: leads,
            shutdown: shutdown.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serve(config).await.unwrap() });
        let asked = Arc::new(Mutex::new(Vec::new()));
        let world = Self {
            cluster,
            asked: asked.clone(),
            proxy,
            address,
            _shutdown: shutdown.drop_guard(),
            _tasks: JoinSet::new(),
        };
        let authority = world.authority().await;
        tasks.spawn(daemon::run(nodes, authority, asked));
        Self {
            _tasks: tasks,
            ..world
        }
    }

    /// The API part's own authority, once it has made it.
    async fn authority(&self) -> Pki {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let made = self.cluster.get(&format!("{SECRETS}/catamaran-ca"));
            if let Some(secret) = made {
                let text = |key: &str| {
                    let bytes = STANDARD
                        .decode(secret["data"][key].as_str().unwrap())
                        .unwrap();
                    String::from_utf8(bytes).unwrap()
                };
                return Pki {
                    certificate: text("tls.crt"),
                    key: text("tls.key"),
                };
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no authority was made"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A TLS connection as the front proxy, or without a certificate.
    pub(crate) async fn dial(&self, proxy: Option<&str>) -> TlsStream<TcpStream> {
        self.dial_by(proxy, "catamaran-api.catamaran-system.svc")
            .await
    }

    /// The same by a name, as a client that prefers HTTP/2.
    pub(crate) async fn dial_by(
        &self,
        proxy: Option<&str>,
        name: &'static str,
    ) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority().await.certificate()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match proxy {
            Some(name) => {
                let (chain, key) = self.proxy.client(name);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from(name).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        // The listener is there from the start, and answers when the serving key is made.
        let stream = TcpStream::connect(self.address).await.unwrap();
        let dialled = connector.connect(name, stream);
        tokio::time::timeout(Duration::from_secs(20), dialled)
            .await
            .expect("a handshake within twenty seconds")
            .unwrap()
    }

    /// A request as that user, through the front proxy.
    pub(crate) async fn ask(&self, user: &str, method: &str, path: &str, body: &str) -> Answer {
        let request = request(user, method, path).body(Full::from(body.to_owned()));
        self.send(Some("front-proxy-client"), request.unwrap())
            .await
    }

    /// A request with that client certificate.
    pub(crate) async fn send(&self, proxy: Option<&str>, request: Request<Full<Bytes>>) -> Answer {
        let stream = TokioIo::new(self.dial(proxy).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer {
            code,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// Puts a machine and its instance.
    pub(crate) fn machine(&self, name: &str, strategy: &str, phase: Option<&str>) {
        let base = "/apis/kubevirt.io/v1/namespaces/d";
        self.cluster.put(
            &format!("{base}/virtualmachines/{name}"),
            json!({
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                "metadata": {"name": name, "namespace": "d", "uid": "m", "resourceVersion": "5"},
                "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {"devices": {}}}}},
            }),
        );
        if let Some(phase) = phase {
            self.cluster.put(
                &format!("{base}/virtualmachineinstances/{name}"),
                json!({
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
                    "metadata": {"name": name, "namespace": "d", "uid": "i"},
                    "spec": {"domain": {"devices": {}}},
                    "status": {"phase": phase, "nodeName": "n1", "interfaces": [{"ipAddress": "127.0.0.1"}]},
                }),
            );
        }
    }
}

/// A request that the front proxy passes on for a user.
pub(crate) fn request(user: &str, method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "catamaran-api")
        .header("x-remote-user", user)
        .header("x-remote-group", "system:authenticated")
}

async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
