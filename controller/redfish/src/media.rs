//! Virtual media: the CD that a BMC shows its system.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::bmc::Bmc;
use crate::error::Error;
use crate::resource::Resource;

/// A slot for virtual media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Path of its URL.
    pub path: String,
    /// What it holds: the URL of the image.
    pub image: Option<String>,
    /// Whether the system sees it. Some BMCs are late with this.
    pub inserted: bool,
}

impl Slot {
    fn of(slot: &Resource) -> Self {
        Self {
            path: slot.path.clone(),
            image: slot.text("/Image").map(str::to_owned),
            inserted: slot.body["Inserted"] == json!(true),
        }
    }

    fn is_free(&self) -> bool {
        !self.inserted && self.image.is_none()
    }
}

impl Bmc {
    /// The slots that take a CD or DVD.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none.
    pub async fn cd_slots(&self) -> Result<Vec<Slot>, Error> {
        let slots = self.bounded().cd_resources().await?;
        Ok(slots.iter().map(Slot::of).collect())
    }

    /// Inserts a CD image by its URL, which the BMC fetches itself. What the slot held before is ejected. Slots that can't do it are passed
    /// over.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] for a URL with a query (many BMCs cut it off); the BMC's own words when no slot takes it;
    /// [`Error::NotConfirmed`] when none shows it afterwards.
    pub async fn insert_cd(&self, image: &str) -> Result<Slot, Error> {
        if image.contains(['?', '&', '#']) {
            return Err(Error::NotAllowed {
                bmc: self.name().to_owned(),
                what: "image URL".to_owned(),
                value: image.to_owned(),
                allowed: vec!["http or https URLs without '?', '&' and '#'".to_owned()],
            });
        }
        let bmc = self.bounded();
        let mut refusal = None;
        for slot in bmc.cd_resources().await? {
            if !Slot::of(&slot).is_free() {
                bmc.eject_slot(&slot).await?;
            } else if bmc.quirks().eject_always
                && let Err(error) = bmc.eject_slot(&slot).await
            {
                // It said that it is free, and so it is.
                tracing::debug!(%error, "ejecting to be sure was not needed");
            }
            match bmc.insert_into(&slot, image).await {
                Ok(()) => {
                    let wanted =
                        |slot: &Slot| slot.inserted || slot.image.as_deref() == Some(image);
                    return bmc.confirm_slot(&slot.path, "inserted", wanted).await;
                }
                // This slot is not made for that, or takes another kind of image: the next.
                Err(error) if matches!(error.status(), Some(400 | 404 | 405)) => {
                    tracing::debug!(%error, "the next slot is tried");
                    refusal.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refusal.unwrap_or_else(|| bmc.missing("VirtualMedia", "a slot for a CD")))
    }

    /// Ejects whatever the CD slots hold.
    ///
    /// # Errors
    /// All that a request can meet; [`Error::NotConfirmed`] when a slot still shows an image afterwards.
    pub async fn eject_cd(&self) -> Result<(), Error> {
        let bmc = self.bounded();
        for slot in bmc.cd_resources().await? {
            if !Slot::of(&slot).is_free() {
                bmc.eject_slot(&slot).await?;
                bmc.confirm_slot(&slot.path, "ejected", Slot::is_free)
                    .await?;
            }
        }
        Ok(())
    }

    async fn cd_resources(&self) -> Result<Vec<Resource>, Error> {
        let system = self.system_resource().await?;
        let mut collections = Vec::new();
        if let Some(own) = system.link("/VirtualMedia") {
            collections.push(own.to_owned());
        } else {
            for manager in system.links("/Links/ManagedBy") {
                let manager = self.read(&manager).await?;
                collections.extend(manager.link("/VirtualMedia").map(str::to_owned));
            }
        }
        let mut found = Vec::new();
        for collection in collections {
            for slot in self.read_members(&collection).await? {
                let types = slot.body["MediaTypes"].as_array();
                if types.is_some_and(|types| types.iter().any(|kind| kind == "CD" || kind == "DVD"))
                {
                    found.push(slot);
                }
            }
        }
        if found.is_empty() {
            return Err(self.missing(&system.path, "virtual media for a CD"));
        }
        Ok(found)
    }

    async fn insert_into(&self, slot: &Resource, image: &str) -> Result<(), Error> {
        let Some(action) = slot.action("#VirtualMedia.InsertMedia") else {
            let body = json!({"Image": image, "Inserted": true, "WriteProtected": true});
            return self.patch(&self.read(&slot.path).await?, &body).await;
        };
        // No more than the image at first: what is the default already is an error to some.
        let mut body = Map::from_iter([("Image".to_owned(), json!(image))]);
        let quirks = self.quirks();
        if let Some(word) = quirks.media_credentials {
            body.insert("UserName".to_owned(), json!(word));
            body.insert("Password".to_owned(), json!(word));
        }
        let mut tries = 0;
        loop {
            let error = match self.act(&action.target, Value::Object(body.clone())).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some((name, value)) =
                asked_for(&error, image).filter(|(name, _)| !body.contains_key(*name))
            {
                body.insert(name.to_owned(), value);
                continue;
            }
            tries += 1;
            let again = error.status() == Some(500) && tries < quirks.insert_tries;
            if !again || !self.pause(self.limits().retry_pause).await {
                return Err(error);
            }
        }
    }

    async fn eject_slot(&self, slot: &Resource) -> Result<(), Error> {
        let Some(action) = slot.action("#VirtualMedia.EjectMedia") else {
            let body = json!({"Image": null, "Inserted": false});
            return self.patch(&self.read(&slot.path).await?, &body).await;
        };
        let empty = crate::wire::Request::new(Method::POST, &action.target, None);
        let answer = match self.ask(&empty).await {
            Ok(answer) => answer,
            Err(error) if matches!(error.status(), Some(400 | 411 | 415)) => {
                self.change(Method::POST, &action.target, json!({})).await?
            }
            Err(error) => return Err(error),
        };
        self.finish(&action.target, answer).await
    }

    async fn confirm_slot(
        &self,
        path: &str,
        wanted: &str,
        is: impl Fn(&Slot) -> bool,
    ) -> Result<Slot, Error> {
        let begin = tokio::time::Instant::now();
        // The BMC may fetch the image before it says so.
        let patience = self.limits().poll * 30;
        loop {
            let slot = Slot::of(&self.read(path).await?);
            if is(&slot) {
                return Ok(slot);
            }
            if begin.elapsed() >= patience || !self.pause(self.poll_pause()).await {
                return Err(Error::NotConfirmed {
                    bmc: self.name().to_owned(),
                    what: format!("virtual media {path}"),
                    wanted: wanted.to_owned(),
                    found: match slot.image {
                        Some(image) => format!("holding {image}"),
                        None => "empty".to_owned(),
                    },
                    after: begin.elapsed(),
                });
            }
        }
    }
}

/// The parameter that a refusal of an insertion asks for.
fn asked_for(error: &Error, image: &str) -> Option<(&'static str, Value)> {
    if error.status() != Some(400) {
        return None;
    }
    let protocol = if image.starts_with("https:") {
        "HTTPS"
    } else {
        "HTTP"
    };
    [
        ("TransferProtocolType", json!(protocol)),
        ("TransferMethod", json!("Stream")),
        ("WriteProtected", json!(true)),
        ("Inserted", json!(true)),
    ]
    .into_iter()
    .find(|(name, _)| error.names(name))
}
