//! A cluster of one host in memory, and a mocked BMC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catamaran_api::metal3::{
    BareMetalHost, BareMetalHostStatus, DataImage, FirmwareSchema, HardwareDetails,
    HostFirmwareSettings, PreprovisioningImage,
};
use catamaran_baremetal::{
    Again, Agents, BesideCache, Bmcs, Companion, DataCache, FirmwareCache, HostMetrics, HostName,
    Note, Shell, State, Store, StoreError,
};
use catamaran_redfish::Limits;
use catamaran_redfish_mock::{Certificate, Handle, Mock, Options, Personality};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) host: Option<BareMetalHost>,
    pub(crate) hardware: Option<HardwareDetails>,
    pub(crate) password: String,
    /// Secrets can't be read.
    pub(crate) secrets_forbidden: bool,
    /// Objects beside the host can't be written.
    pub(crate) others_forbidden: bool,
    /// Of the BMC's certificate, where it speaks TLS.
    pub(crate) authority: Option<String>,
    pub(crate) now: i64,
    pub(crate) notes: Vec<Note>,
    /// Secrets besides the BMC's: name, and key and value of the one entry.
    pub(crate) secrets: Vec<(String, String, String)>,
    /// Objects beside the host, by kind and name.
    pub(crate) others: BTreeMap<(String, String), Value>,
    /// What was told of them: kind and note.
    pub(crate) others_notes: Vec<(String, Note)>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<Memory>>);

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut object[name], value);
        }
    }
}

impl Fake {
    /// Changes the host as a user does.
    pub(crate) fn change(&self, patch: &Value) {
        let mut memory = self.0.lock().unwrap();
        let mut object = serde_json::to_value(memory.host.as_ref().unwrap()).unwrap();
        merge(&mut object, patch);
        if !patch["spec"].is_null() || !patch["metadata"]["deletionTimestamp"].is_null() {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        memory.host = Some(serde_json::from_value(object).unwrap());
    }

    /// An object beside the host.
    pub(crate) fn other<K: Companion>(&self, name: &str) -> Option<K> {
        let memory = self.0.lock().unwrap();
        let found = memory.others.get(&(K::kind(&()).into(), name.to_owned()));
        found.map(|found| serde_json::from_value(found.clone()).unwrap())
    }

    /// Makes or changes one as a user does. A change of the spec is a new generation; one whose deletion nothing holds goes.
    pub(crate) fn change_other<K: Companion>(&self, name: &str, patch: &Value) {
        let mut memory = self.0.lock().unwrap();
        let key = (K::kind(&()).into_owned(), name.to_owned());
        let uid = format!("{}-{name}", key.0);
        let new = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": name, "namespace": "n", "uid": uid},
        });
        let object = memory.others.entry(key.clone()).or_insert(new);
        merge(object, patch);
        if !patch["spec"].is_null() {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let held = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        if !object["metadata"]["deletionTimestamp"].is_null() && !held {
            memory.others.remove(&key);
        }
    }

    fn changed<K: Companion>(&self, object: &K, patch: &Value) -> K {
        let name = object.meta().name.clone().unwrap();
        self.change_other::<K>(&name, patch);
        self.other(&name).unwrap_or_else(|| object.clone())
    }
}

impl Store for Fake {
    fn now(&self) -> i64 {
        self.0.lock().unwrap().now
    }

    fn host(&self, _: &HostName) -> Option<BareMetalHost> {
        self.0.lock().unwrap().host.clone()
    }

    fn hosts(&self) -> Vec<BareMetalHost> {
        self.0.lock().unwrap().host.clone().into_iter().collect()
    }

    async fn secret(&self, _: &str, name: &str) -> Result<Option<Secret>, StoreError> {
        let memory = self.0.lock().unwrap();
        if memory.secrets_forbidden {
            return Err(StoreError("forbidden".into()));
        }
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        let entry =
            |key: &str, value: &str| (key.to_owned(), ByteString(value.as_bytes().to_vec()));
        if name != "bmc" {
            let found = memory.secrets.iter().find(|(known, ..)| known == name);
            return Ok(found.map(|(_, key, value)| {
                secret.data = Some([entry(key, value)].into());
                secret
            }));
        }
        let written = memory.others.get(&("Secret".to_owned(), name.to_owned()));
        if let Some(written) = written {
            secret.metadata = serde_json::from_value(written["metadata"].clone()).unwrap();
        }
        let login = [("username", "admin"), ("password", &memory.password)];
        let authority = memory.authority.as_deref().map(|pem| ("ca.crt", pem));
        let entries = login.into_iter().chain(authority);
        secret.data = Some(entries.map(|(key, value)| entry(key, value)).collect());
        secret.metadata.resource_version = Some(memory.password.clone());
        Ok(Some(secret))
    }

    async fn write(&self, _: &BareMetalHost, patch: Value) -> Result<BareMetalHost, StoreError> {
        self.change(&patch);
        let mut memory = self.0.lock().unwrap();
        let host = memory.host.clone().unwrap();
        let held = host
            .metadata
            .finalizers
            .as_ref()
            .is_some_and(|all| !all.is_empty());
        if host.metadata.deletion_timestamp.is_some() && !held {
            memory.host = None;
        }
        Ok(host)
    }

    async fn write_status(
        &self,
        _: &BareMetalHost,
        status: &BareMetalHostStatus,
    ) -> Result<BareMetalHost, StoreError> {
        let mut memory = self.0.lock().unwrap();
        let host = memory.host.as_mut().unwrap();
        host.status = Some(status.clone());
        Ok(host.clone())
    }

    async fn write_hardware(
        &self,
        _: &BareMetalHost,
        hardware: &HardwareDetails,
    ) -> Result<(), StoreError> {
        self.0.lock().unwrap().hardware = Some(hardware.clone());
        Ok(())
    }

    fn firmware(&self, name: &HostName) -> Option<HostFirmwareSettings> {
        self.other(&name.name)
    }

    fn data_image(&self, name: &HostName) -> Option<DataImage> {
        self.other(&name.name)
    }

    fn preprovisioning_image(&self, name: &HostName) -> Option<PreprovisioningImage> {
        self.other(&name.name)
    }

    async fn schema(&self, _: &str, name: &str) -> Result<Option<FirmwareSchema>, StoreError> {
        Ok(self.other(name))
    }

    async fn make<K: Companion>(&self, object: &K) -> Result<K, StoreError> {
        let new = serde_json::to_value(object).unwrap();
        Ok(self.changed(object, &new))
    }

    async fn patch<K: Companion>(&self, object: &K, patch: Value) -> Result<K, StoreError> {
        Ok(self.changed(object, &patch))
    }

    async fn patch_status<K: Companion>(&self, object: &K, status: Value) -> Result<K, StoreError> {
        if self.0.lock().unwrap().others_forbidden {
            return Err(StoreError("forbidden".into()));
        }
        self.changed(object, &json!({"status": null}));
        Ok(self.changed(object, &json!({"status": status})))
    }

    async fn tell_of<K: Companion>(&self, _: &K, note: Note) {
        let told = (K::kind(&()).into_owned(), note);
        self.0.lock().unwrap().others_notes.push(told);
    }

    async fn tell(&self, _: &BareMetalHost, note: Note) {
        self.0.lock().unwrap().notes.push(note);
    }
}

/// A host, its BMC, and a controller.
pub(crate) struct Bench {
    _mock: Mock,
    limits: Limits,
    pub(crate) bmc: Handle,
    pub(crate) cluster: Fake,
    pub(crate) shell: Shell<Fake, Agents<Fake>>,
}

/// Limits that fit a BMC which answers at once.
pub(crate) fn quick() -> Limits {
    Limits {
        connect: Duration::from_millis(500),
        request: Duration::from_millis(500),
        login: Duration::from_millis(500),
        operation: Duration::from_secs(3),
        retry_pause: Duration::from_millis(20),
        poll: Duration::from_millis(50),
        suspension: Duration::from_millis(1),
        refused_credentials: Duration::from_millis(1),
        ..Limits::default()
    }
}

fn shell(cluster: &Fake, agents: Agents<Fake>, limits: Limits) -> Shell<Fake, Agents<Fake>> {
    Shell {
        store: cluster.clone(),
        bmcs: Arc::new(Bmcs::new(limits)),
        deploy: agents,
        metrics: HostMetrics::new(&Default::default()).unwrap(),
        firmware: FirmwareCache::default(),
        data: DataCache::default(),
        beside: BesideCache::default(),
    }
}

fn absent(cluster: &Fake) -> Agents<Fake> {
    Agents::absent("there is none in this test", cluster.clone())
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let options = Options::new("bmc0", 0, Personality::named("standard").unwrap());
        Self::with(options, None, quick()).await
    }

    pub(crate) async fn with(
        options: Options,
        certificate: Option<&Certificate>,
        limits: Limits,
    ) -> Self {
        let mut mock = Mock::new();
        let bmc = mock.add(options, certificate).await.unwrap();
        let cluster = Fake::default();
        {
            let mut memory = cluster.0.lock().unwrap();
            "password".clone_into(&mut memory.password);
            memory.authority = certificate.map(|one| one.pem.clone());
            memory.now = 1_000_000;
            let address = bmc.url().replacen("http", "redfish-virtualmedia+http", 1);
            memory.host = Some(
                serde_json::from_value(json!({
                    "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
                    "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 1},
                    "spec": {"online": true, "bmc": {"address": address, "credentialsName": "bmc"}},
                }))
                .unwrap(),
            );
        }
        let shell = shell(&cluster, absent(&cluster), limits);
        Self {
            limits,
            _mock: mock,
            bmc,
            cluster,
            shell,
        }
    }

    pub(crate) fn name() -> HostName {
        HostName {
            namespace: "n".to_owned(),
            name: "a".to_owned(),
        }
    }

    /// The controller is another process now.
    pub(crate) fn restart(&mut self) {
        self.restart_with(absent(&self.cluster));
    }

    /// The same, with these agents.
    pub(crate) fn restart_with(&mut self, agents: Agents<Fake>) {
        self.shell = shell(&self.cluster, agents, self.limits);
    }

    /// One look; the time of the pause goes by.
    pub(crate) async fn step(&self) -> Again {
        let again = Box::pin(self.shell.reconcile(&Self::name())).await.unwrap();
        if let Again::After(seconds) = again {
            self.cluster.0.lock().unwrap().now += seconds;
        }
        again
    }

    pub(crate) fn host(&self) -> Option<BareMetalHost> {
        self.cluster.0.lock().unwrap().host.clone()
    }

    pub(crate) fn status(&self) -> BareMetalHostStatus {
        self.host().unwrap().status.unwrap_or_default()
    }

    pub(crate) fn state(&self) -> State {
        State::of(&self.host().unwrap())
    }

    /// Looks until the host is in a state.
    pub(crate) async fn until(&self, state: State) {
        for _ in 0..30 {
            if self.state() == state {
                return;
            }
            self.step().await;
        }
        panic!("not {state:?}: {:?}", self.status());
    }

    pub(crate) fn delete(&self) {
        self.cluster
            .change(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    }

    /// Looks until the host is gone; says how many looks it took.
    pub(crate) async fn gone(&self) -> u32 {
        for looks in 0..40 {
            if self.host().is_none() {
                return looks;
            }
            self.step().await;
        }
        panic!("not gone: {:?}", self.status());
    }

    pub(crate) fn told(&self, reason: &str) -> bool {
        let memory = self.cluster.0.lock().unwrap();
        memory.notes.iter().any(|note| note.reason == reason)
    }

    pub(crate) fn condition(&self, type_: &str) -> Option<String> {
        let all = self.status().conditions;
        all.into_iter()
            .find(|one| one.type_ == type_)
            .map(|one| one.status)
    }
}
