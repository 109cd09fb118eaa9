//! Documents that are made from the registries.

use std::fs;

use crate::arrows;

/// The reference of all settings.
pub const CONFIG_DOCUMENT: &str = "engine/model/CONFIG.md";

/// Writes them.
pub fn write() -> Result<String, String> {
    fs::write(CONFIG_DOCUMENT, model::config::config_reference())
        .map_err(|error| format!("{CONFIG_DOCUMENT}: {error}"))?;
    let table = arrows::write_table()?;
    Ok(format!("docs: wrote {CONFIG_DOCUMENT}\n{table}"))
}

/// Checks that they are what the registries say.
pub fn check() -> Result<String, String> {
    let present = fs::read_to_string(CONFIG_DOCUMENT)
        .map_err(|error| format!("{CONFIG_DOCUMENT}: {error}"))?;
    if present == model::config::config_reference() {
        Ok(format!("docs: {CONFIG_DOCUMENT} is up to date\n"))
    } else {
        Err(format!(
            "{CONFIG_DOCUMENT} is stale: run `cargo xtask docs`"
        ))
    }
}
