//! Patches of configs (RFC 7396).
//!
//! Owns: applying one, and joining two.
//! Never: reads text; values come in and go out.
//! Holds: what either of two patches takes away stays away.

/// Two patches as one, the later over the earlier; what either takes away stays away.
pub(in crate::decision) fn joined(
    earlier: &serde_json::Value,
    later: &serde_json::Value,
) -> serde_json::Value {
    use serde_json::Value;
    let (Value::Object(earlier), Value::Object(later)) = (earlier, later) else { return later.clone() };
    let mut joined = earlier.clone();
    for (name, change) in later {
        let both = match joined.get(name) {
            // A `null` replaces what was there and stays: applied later, it must still take the
            // member away.
            Some(before) => self::joined(before, change),
            None => change.clone(),
        };
        joined.insert(name.clone(), both);
    }
    Value::Object(joined)
}

/// A config with a patch applied (RFC 7396).
pub(in crate::decision) fn patched(
    config: &serde_json::Value,
    patch: &serde_json::Value,
) -> serde_json::Value {
    use serde_json::Value;
    let Value::Object(patch) = patch else { return patch.clone() };
    // As RFC 7396 has it: a patch that is an object makes one of whatever was there.
    let mut patched = config.as_object().cloned().unwrap_or_default();
    for (name, change) in patch {
        match change {
            Value::Null => drop(patched.remove(name)),
            change => {
                let before = patched.get(name).cloned().unwrap_or(Value::Null);
                patched.insert(name.clone(), self::patched(&before, change));
            }
        }
    }
    Value::Object(patched)
}
