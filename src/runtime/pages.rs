//! What a support bundle asks of the router that makes it.
//!
//! Owns: each page as the question that the router answers.
//! Never: makes a page of its own: the API has the same ones.
//! Holds: one page is at most one answer.

use serde_json::Value;

use super::{ask::Question, asker::Asker};
use crate::{
    contract::routing::Scope,
    support::{
        Source,
        gather::{Page, Pages},
    },
    view::PAGE_MAX,
};

impl Pages for Asker {
    async fn page(&self, page: &Page) -> Source<Value> {
        let question = match page {
            Page::Overview => Question::Overview,
            Page::Swarms => Question::Swarms,
            Page::Instances { swarm, after } => {
                let scope = |after: &str| {
                    let (role, instance) = after.split_once('/')?;
                    Some(Scope::new(swarm.as_str(), role, instance))
                };
                let after = after.as_deref().and_then(scope);
                Question::Instances { swarm: swarm.clone(), after, limit: PAGE_MAX }
            }
            Page::Commands { parked } => Question::Commands { parked: *parked, limit: PAGE_MAX },
            Page::Safety => Question::Safety,
            Page::Challenges => Question::Challenges,
        };
        let answer = self.ask(question).await.map_err(|fault| fault.to_string())?;
        let answer = answer.ok_or_else(|| "the router does not know it".to_owned())?;
        serde_json::to_value(answer).map_err(|fault| fault.to_string())
    }
}
