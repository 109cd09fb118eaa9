//! A comparison of brokers under the same loads, in paired order: the plan, the journal of results, the report.

mod journal;
mod machine;
mod plan;
mod report;
mod run;

pub use journal::{Entry, Journal, Window};
pub use machine::Machine;
pub use plan::{Plan, PlanOptions, Step};
pub use report::report;
pub use run::perform;
