//! May he? One SubjectAccessReview per call.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};

use crate::GROUP;
use crate::answer::Refusal;
use crate::identity::User;

/// What an access review asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `get` or `update`.
    pub verb: &'static str,
    /// Version of the API.
    pub version: &'static str,
    /// Namespace of the object.
    pub namespace: String,
    /// `virtualmachines`, `virtualmachineinstances` or `expand-vm-spec`.
    pub resource: &'static str,
    /// Such as `console` or `vnc/screenshot`; empty for a whole resource.
    pub subresource: &'static str,
    /// Name of the object.
    pub name: String,
}

impl Question {
    fn review(&self, user: &User) -> SubjectAccessReview {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    version: Some(self.version.to_owned()),
                    namespace: Some(self.namespace.clone()),
                    resource: Some(self.resource.to_owned()),
                    subresource: some(self.subresource),
                    name: some(&self.name),
                    verb: Some(self.verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        }
    }

    /// In the words of the API server's own refusals.
    fn denial(&self, user: &User, reason: &str) -> Refusal {
        let (slash, subresource) = if self.subresource.is_empty() {
            ("", "")
        } else {
            ("/", self.subresource)
        };
        let why = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        Refusal::forbidden(format!(
            "{}.{GROUP} {:?} is forbidden: User {:?} cannot {} resource \"{}{slash}{subresource}\" in API group {GROUP:?} in the namespace {:?}{why}",
            self.resource, self.name, user.name, self.verb, self.resource, self.namespace
        ))
    }
}

/// Asks the API server whether the user may.
pub(crate) async fn review(
    client: &Client,
    user: &User,
    question: &Question,
) -> Result<(), Refusal> {
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let answer = reviews
        .create(&PostParams::default(), &question.review(user))
        .await?;
    match answer.status {
        Some(status) if status.allowed && status.denied != Some(true) => Ok(()),
        status => Err(question.denial(user, &status.and_then(|s| s.reason).unwrap_or_default())),
    }
}
