//! One member of a classic group.
//!
//! Invariant: at most one join and one sync of a member are parked; a newer one answers the older.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::MonotonicTime;

use crate::effects::RequestToken;
use crate::records::StoredMember;
use crate::request::{JoinGroupRequest, JoinProtocol};
use crate::settings::{NEW_MEMBER_JOIN_TIMEOUT, Now};

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<JoinProtocol>,
    pub(crate) assignment: Bytes,
    pub(crate) awaiting_join: Option<RequestToken>,
    pub(crate) awaiting_sync: Option<RequestToken>,
    /// Until its first join is answered.
    pub(crate) is_new: bool,
    /// Whether it has asked for its assignment of this generation.
    pub(crate) synced: bool,
    session_deadline: MonotonicTime,
}

/// A wire timeout; negative is zero.
pub(crate) fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

impl Member {
    pub(crate) fn joining(
        id: Arc<str>,
        request: &JoinGroupRequest,
        token: RequestToken,
        now: Now,
    ) -> Member {
        Member {
            id,
            instance_id: request.group_instance_id.as_deref().map(Arc::from),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: rebalance_timeout_ms(request),
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
            synced: false,
            session_deadline: now.monotonic.plus(NEW_MEMBER_JOIN_TIMEOUT),
        }
    }

    pub(crate) fn restored(stored: &StoredMember, protocol: Option<&str>, now: Now) -> Member {
        let rebalance_timeout_ms = match stored.rebalance_timeout_ms {
            -1 => stored.session_timeout_ms,
            timeout => timeout,
        };
        let protocol = protocol.map(|name| JoinProtocol {
            name: name.to_owned(),
            metadata: stored.subscription.clone(),
        });
        let mut member = Member {
            id: Arc::from(stored.member_id.as_str()),
            instance_id: stored.group_instance_id.as_deref().map(Arc::from),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout_ms,
            protocols: protocol.into_iter().collect(),
            assignment: stored.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            synced: true,
            session_deadline: now.monotonic,
        };
        member.touch(now);
        member
    }

    /// Takes over what a repeated join says.
    pub(crate) fn update(&mut self, request: &JoinGroupRequest) {
        self.protocols.clone_from(&request.protocols);
        self.rebalance_timeout_ms = rebalance_timeout_ms(request);
        self.session_timeout_ms = request.session_timeout_ms;
    }

    pub(crate) fn touch(&mut self, now: Now) {
        self.session_deadline = now.monotonic.plus(millis(self.session_timeout_ms));
    }

    /// When the member counts as lost; `None` while it waits for us, unless it never got its first answer.
    pub(crate) fn session_deadline(&self) -> Option<MonotonicTime> {
        let waits = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        (self.is_new || !waits).then_some(self.session_deadline)
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        let found = self.protocols.iter().find(|known| known.name == protocol);
        found.map(|known| &known.metadata)
    }
}

fn rebalance_timeout_ms(request: &JoinGroupRequest) -> i32 {
    match request.rebalance_timeout_ms {
        ..0 => request.session_timeout_ms,
        timeout => timeout,
    }
}
