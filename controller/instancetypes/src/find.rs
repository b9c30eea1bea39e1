//! Finding them in the cluster.

use catamaran_api::{
    INSTANCETYPE_GROUP, INSTANCETYPE_VERSION, InstancetypeStatusRef, VirtualMachine,
};
use catamaran_spec::instancetype::{Named, Role, Scope, Source, claim_of, inferred, source};
use catamaran_spec::{Fault, FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Found, Problem, Resolved};

/// Revisions that are known without asking the API server.
pub trait Kept {
    /// The revision of that name.
    fn revision(&self, namespace: &str, name: &str) -> Option<ControllerRevision>;
}

/// Nothing is known.
impl Kept for () {
    fn revision(&self, _: &str, _: &str) -> Option<ControllerRevision> {
        None
    }
}

/// Finds what a machine in that namespace names.
///
/// # Errors
/// Mistakes of the matchers, objects that are not there, each with its path; or the API server's refusal.
pub async fn resolve(
    client: &Client,
    kept: &(impl Kept + Sync),
    namespace: &str,
    vm: &VirtualMachine,
) -> Result<Resolved, Problem> {
    let finder = Finder {
        client,
        namespace,
        vm,
    };
    let instancetype = Box::pin(finder.find(kept, Role::Instancetype)).await;
    let preference = Box::pin(finder.find(kept, Role::Preference)).await;
    match (instancetype, preference) {
        (Ok(instancetype), Ok(preference)) => Ok(Resolved {
            instancetype,
            preference,
        }),
        (Err(Problem::Fields(mut one)), Err(Problem::Fields(other))) => {
            one.0.extend(other.0);
            Err(Problem::Fields(one))
        }
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    }
}

/// A machine in that namespace with what it names merged into its template; nothing is asked about one that names nothing.
///
/// # Errors
/// Those of [`resolve`] and of [`Resolved::expanded`].
pub async fn expanded(
    client: &Client,
    namespace: &str,
    vm: &VirtualMachine,
) -> Result<VirtualMachine, Problem> {
    let found = resolve(client, &(), namespace, vm).await?;
    Ok(found.expanded(vm)?)
}

struct Finder<'a> {
    client: &'a Client,
    namespace: &'a str,
    vm: &'a VirtualMachine,
}

impl Finder<'_> {
    async fn find(&self, kept: &(impl Kept + Sync), role: Role) -> Result<Option<Found>, Problem> {
        let Some(source) = source(self.vm, role)? else {
            return Ok(None);
        };
        let policy = role
            .matcher(self.vm)
            .and_then(|matcher| matcher.infer_from_volume_failure_policy.clone());
        let inferred = match &source {
            Source::Named(_) => None,
            Source::Volume { volume, .. } => Some((volume.clone(), policy)),
        };
        if let Some(revision) = pinned(self.vm, role, &source) {
            let (named, object) = self.kept(kept, role, &revision).await?;
            return Ok(Some(Found {
                named,
                object,
                revision: Some(revision),
                inferred,
            }));
        }
        let named = match source {
            Source::Named(named) => named,
            Source::Volume { volume, ignore } => match self.infer(role, &volume).await {
                Ok(named) => named,
                Err(Problem::Fields(_)) if ignore => return Ok(None),
                Err(problem) => return Err(problem),
            },
        };
        let object = self.object(&named).await?;
        Ok(Some(Found {
            named,
            object,
            revision: None,
            inferred,
        }))
    }

    /// From a revision.
    async fn kept(
        &self,
        kept: &(impl Kept + Sync),
        role: Role,
        name: &str,
    ) -> Result<(Named, Value), Problem> {
        let revision = match kept.revision(self.namespace, name) {
            Some(revision) => Some(revision),
            None => self.get::<ControllerRevision>(name).await?,
        };
        let invalid = |detail: &str| {
            let path = FieldPath::new("spec").child(role.field());
            Problem::Fields(FieldErrors(vec![FieldError {
                path: path.child("revisionName"),
                fault: Fault::Invalid(name.to_owned(), detail.to_owned()),
            }]))
        };
        let Some(revision) = revision else {
            return Err(invalid("there is no ControllerRevision of that name"));
        };
        let object = revision.data.map(|data| data.0).unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        match Role::of_kind(kind) {
            Some((of, scope)) if of == role => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let name = name.to_owned();
                Ok((Named { role, scope, name }, object))
            }
            _ => Err(invalid(&format!(
                "the ControllerRevision holds a {kind:?} and no {}",
                role.field()
            ))),
        }
    }

    async fn infer(&self, role: Role, volume: &str) -> Result<Named, Problem> {
        let name = claim_of(self.vm, volume, role)?;
        let claim = self.get::<PersistentVolumeClaim>(&name).await?;
        let labels = claim.map(|claim| claim.metadata.labels.unwrap_or_default());
        Ok(inferred(role, volume, &name, labels.as_ref())?)
    }

    async fn object(&self, named: &Named) -> Result<Value, Problem> {
        let kind = GroupVersionKind::gvk(INSTANCETYPE_GROUP, INSTANCETYPE_VERSION, named.kind());
        let resource = ApiResource::from_gvk_with_plural(&kind, &named.plural());
        let client = self.client.clone();
        let api: Api<DynamicObject> = match named.scope {
            Scope::Cluster => Api::all_with(client, &resource),
            Scope::Namespace => Api::namespaced_with(client, self.namespace, &resource),
        };
        let found = api
            .get_opt(&named.name)
            .await
            .map_err(|source| Problem::Api {
                what: format!("read {named}"),
                source: Box::new(source),
            })?;
        let object = found.ok_or_else(|| named.missing())?;
        Ok(serde_json::to_value(object).unwrap_or_default())
    }

    async fn get<K>(&self, name: &str) -> Result<Option<K>, Problem>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        api.get_opt(name).await.map_err(|source| Problem::Api {
            what: format!("read {} {}/{name}", K::kind(&()), self.namespace),
            source: Box::new(source),
        })
    }
}

/// The revision that a machine runs with: the one that its spec names, else the one of its status, unless the spec has changed since.
fn pinned(vm: &VirtualMachine, role: Role, source: &Source) -> Option<String> {
    let matcher = role.matcher(vm)?;
    let named = matcher.revision_name.clone();
    if let Some(revision) = named.filter(|name| !name.is_empty()) {
        return Some(revision);
    }
    let status = vm.status.as_ref()?;
    let reference = match role {
        Role::Instancetype => status.instancetype_ref.as_ref(),
        Role::Preference => status.preference_ref.as_ref(),
    }?;
    let revision = reference.controller_revision_ref.as_ref()?.name.clone()?;
    is_of(reference, source).then_some(revision)
}

fn is_of(reference: &InstancetypeStatusRef, source: &Source) -> bool {
    let volume = reference.infer_from_volume.as_deref();
    match source {
        Source::Volume { volume: wanted, .. } => volume == Some(wanted),
        Source::Named(named) => {
            volume.is_none()
                && reference.name.as_ref() == Some(&named.name)
                && reference.kind.as_deref() == Some(named.kind())
        }
    }
}
