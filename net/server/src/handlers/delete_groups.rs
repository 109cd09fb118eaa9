//! DeleteGroups (key 42): empty groups and their offsets go (KIP-229).

use coordinator::DeleteGroupsRequest as DeleteGroups;
use protocol::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::groups;

/// Answers when the deletions are durable.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: DeleteGroupsRequest,
) -> Result<(), ConnectionEnd> {
    let names = &request.groups_names;
    let deleted = groups::ask_each(context, names, |groups| DeleteGroups { groups });
    let results = deleted.await.into_iter();
    let results = results.map(|(group_id, error)| DeletableGroupResult {
        group_id: group_id.into(),
        error_code: context.code(error_codes::group(error)),
    });
    context.answer(&DeleteGroupsResponse {
        results: results.collect(),
        ..DeleteGroupsResponse::default()
    })
}
