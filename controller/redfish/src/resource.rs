//! Resources of Redfish: reading them, following their links, their collections, their actions, and changing them with ETags.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::Value;

use crate::bmc::Bmc;
use crate::error::Error;
use crate::etag::ladder;
use crate::wire::{Answer, Request};

/// Pages of a collection, or links, that are followed at most.
const MOST_PAGES: usize = 100;

/// A resource as the BMC gave it.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Path of its URL.
    pub path: String,
    /// Its ETag, if it has one.
    pub etag: Option<String>,
    /// Its content.
    pub body: Value,
}

/// An action of a resource.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    /// Where to post.
    pub(crate) target: String,
    body: Value,
}

impl Resource {
    /// A text in it, by JSON pointer; none where it is missing, null, no text, or blank.
    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        let text = self.body.pointer(pointer)?.as_str()?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// The path that a link in it leads to.
    pub(crate) fn link(&self, pointer: &str) -> Option<&str> {
        let link = self.body.pointer(pointer)?;
        let link = link.get("@odata.id").unwrap_or(link).as_str()?;
        (!link.is_empty()).then_some(link)
    }

    /// The paths in a list of links.
    pub(crate) fn links(&self, pointer: &str) -> Vec<String> {
        let list = self.body.pointer(pointer).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|link| Some(link.get("@odata.id")?.as_str()?.to_owned()))
            .collect()
    }

    /// The members of a page of a collection.
    pub(crate) fn page(&self) -> &[Value] {
        let members = self.body["Members"].as_array();
        members.map(Vec::as_slice).unwrap_or_default()
    }

    /// Where the page after this one is.
    pub(crate) fn next(&self) -> Option<String> {
        self.link("/Members@odata.nextLink")
            .or_else(|| self.link("/@odata.nextLink"))
            .map(str::to_owned)
    }

    /// The values that are allowed for a property beside it; none where the BMC does not say.
    pub(crate) fn allowable(&self, object: &str, property: &str) -> Option<Vec<String>> {
        let list = self
            .body
            .pointer(object)?
            .get(format!("{property}@Redfish.AllowableValues"))?;
        texts(list)
    }

    /// An action, such as `#ComputerSystem.Reset`.
    pub(crate) fn action(&self, name: &str) -> Option<Action> {
        let body = self.body["Actions"].get(name)?;
        let target = body["target"].as_str()?.to_owned();
        Some(Action {
            target,
            body: body.clone(),
        })
    }
}

fn texts(list: &Value) -> Option<Vec<String>> {
    let list = list.as_array()?.iter();
    let texts: Vec<String> = list
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect();
    (!texts.is_empty()).then_some(texts)
}

impl Bmc {
    /// Reads a resource.
    ///
    /// # Errors
    /// All that a request can meet.
    pub async fn read(&self, path: &str) -> Result<Resource, Error> {
        let answer = self.ask(&Request::get(path)).await?;
        let tag = answer.body["@odata.etag"].as_str().map(str::to_owned);
        Ok(Resource {
            path: path.to_owned(),
            etag: answer.etag.or(tag),
            body: answer.body,
        })
    }

    /// The paths of a collection's members, from all its pages.
    pub(crate) async fn members(&self, path: &str) -> Result<Vec<String>, Error> {
        let (mut found, mut next) = (Vec::new(), Some(path.to_owned()));
        let mut known = HashSet::new();
        for _ in 0..MOST_PAGES {
            let Some(page) = next.take() else { break };
            let page = self.read(&page).await?;
            for member in page.links("/Members") {
                if known.insert(member.clone()) {
                    found.push(member);
                }
            }
            next = page.next();
        }
        Ok(found)
    }

    /// All members of a collection.
    pub(crate) async fn read_members(&self, path: &str) -> Result<Vec<Resource>, Error> {
        let mut found = Vec::new();
        for member in self.members(path).await? {
            found.push(self.read(&member).await?);
        }
        Ok(found)
    }

    /// The values that are allowed for an action's parameter, from beside it or from its `ActionInfo`; none where the BMC does not say.
    pub(crate) async fn allowed(
        &self,
        action: &Action,
        parameter: &str,
    ) -> Result<Option<Vec<String>>, Error> {
        let beside = action
            .body
            .get(format!("{parameter}@Redfish.AllowableValues"))
            .and_then(texts);
        let info = action.body["@Redfish.ActionInfo"].as_str();
        let (None, Some(info)) = (&beside, info) else {
            return Ok(beside);
        };
        let info = self.read(info).await?;
        let parameters = info.body["Parameters"].as_array();
        Ok(parameters
            .into_iter()
            .flatten()
            .find(|entry| entry["Name"] == parameter)
            .and_then(|entry| texts(&entry["AllowableValues"])))
    }

    /// Changes a resource, and waits for the task that the BMC may make of it.
    pub(crate) async fn patch(&self, resource: &Resource, body: &Value) -> Result<(), Error> {
        let answer = self.patch_with_etag(resource, body).await?;
        self.finish(&resource.path, answer).await
    }

    /// Changes a resource whose task, if there is one, waits for something else: a restart.
    pub(crate) async fn patch_without_waiting(
        &self,
        resource: &Resource,
        body: &Value,
    ) -> Result<(), Error> {
        self.patch_with_etag(resource, body).await.map(drop)
    }

    /// Changes a resource, with its ETag in the forms that BMCs want.
    async fn patch_with_etag(&self, resource: &Resource, body: &Value) -> Result<Answer, Error> {
        let mut request = Request::new(Method::PATCH, &resource.path, Some(body.clone()));
        let mut forms = ladder(resource.etag.as_deref()).into_iter();
        request.if_match = forms.next().flatten();
        loop {
            let error = match self.ask(&request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(next) = forms.next().filter(|_| error.status() == Some(412)) else {
                return Err(error);
            };
            tracing::debug!(%error, "another form of the ETag is tried");
            request.if_match = next;
        }
    }

    /// Posts to an action and waits for its end.
    pub(crate) async fn act(&self, target: &str, body: Value) -> Result<(), Error> {
        let answer: Answer = self.change(Method::POST, target, body).await?;
        self.finish(target, answer).await
    }
}
