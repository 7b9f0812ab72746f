//! Patches of configs (RFC 7396).
//!
//! Owns: applying one, and joining two.
//! Never: reads text; values come in and go out.
//! Holds: a patch joined of two does what the two do one after the other.

/// Two patches as one, the later over the earlier; what either takes away stays away. `None` where
/// no one patch does that: the earlier one replaced the whole of what the later one adds to.
pub(in crate::decision) fn joined(
    earlier: &serde_json::Value,
    later: &serde_json::Value,
) -> Option<serde_json::Value> {
    use serde_json::Value;
    let (earlier, later) = match (earlier, later) {
        (Value::Object(earlier), Value::Object(later)) => (earlier, later),
        (_, Value::Object(_)) => return None,
        (_, later) => return Some(later.clone()),
    };
    let mut joined = earlier.clone();
    for (name, change) in later {
        let both = match joined.get(name) {
            // A `null` replaces what was there and stays: applied later, it must still take the
            // member away.
            Some(before) => self::joined(before, change)?,
            None => change.clone(),
        };
        joined.insert(name.clone(), both);
    }
    Some(Value::Object(joined))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_patch_does_what_both_do_or_there_is_none() {
        for (earlier, later, both) in [
            (json!({"a": 1}), json!({"b": {"c": 2}}), Some(json!({"a": 1, "b": {"c": 2}}))),
            (json!({"a": {"b": 1}}), json!({"a": {"c": null}}), Some(json!({"a": {"b": 1, "c": null}}))),
            (json!({"a": {"b": 1}}), json!({"a": null}), Some(json!({"a": null}))),
            (json!({"a": null}), json!({"a": 2}), Some(json!({"a": 2}))),
            // Whatever else was in `a` is gone after both, and no one patch takes it away.
            (json!({"a": null}), json!({"a": {"b": 1}}), None),
            (json!({"a": 5}), json!({"a": {"b": 1}}), None),
        ] {
            let one = joined(&earlier, &later);
            assert_eq!(one, both, "{earlier} and {later}");
            let reported = json!({"a": {"d": 4}, "e": 5});
            let one_after_the_other = patched(&patched(&reported, &earlier), &later);
            assert!(one.is_none_or(|one| patched(&reported, &one) == one_after_the_other));
        }
    }
}
