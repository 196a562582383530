//! The scripts that an engine knows, by their digests.

use std::collections::HashMap;

use mlua::{Function, Table};

use super::Flags;

/// How many scripts are known that came by `EVAL` and never by `SCRIPT LOAD`. Of more, the ones that were used longest ago
/// are forgotten, as Redis 7.4 and later forget them: a program that puts values into its scripts' text sends new ones
/// for ever.
const MOST_EVALUATED: usize = 500;

/// The scripts that an engine knows.
pub(super) struct Known {
    /// The compiled scripts, in Lua: one that Rust holds takes a place on a stack of Lua, which has about 8,000.
    functions: Table,
    scripts: HashMap<String, Script>,
    /// How many came by `EVAL` alone.
    evaluated: usize,
    uses: u64,
}

struct Script {
    flags: Flags,
    was_loaded: bool,
    last_use: u64,
}

/// How a script came to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Eval,
    Load,
}

impl Known {
    pub(super) fn new(functions: Table) -> Self {
        Self {
            functions,
            scripts: HashMap::new(),
            evaluated: 0,
            uses: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.scripts.len()
    }

    pub(super) fn flags(&self, sha: &str) -> Option<Flags> {
        self.scripts.get(sha).map(|script| script.flags)
    }

    /// Notes that a script is used, or loaded, once more, and gives its flags; `None` for one that is not known.
    pub(super) fn note_use(&mut self, sha: &str, origin: Origin) -> Option<Flags> {
        let script = self.scripts.get_mut(sha)?;
        self.uses += 1;
        script.last_use = self.uses;
        if origin == Origin::Load && !std::mem::replace(&mut script.was_loaded, true) {
            self.evaluated -= 1;
        }
        Some(script.flags)
    }

    pub(super) fn add(
        &mut self,
        sha: &str,
        function: Function,
        flags: Flags,
        origin: Origin,
    ) -> mlua::Result<()> {
        self.functions.raw_set(sha, function)?;
        self.uses += 1;
        let script = Script {
            flags,
            was_loaded: origin == Origin::Load,
            last_use: self.uses,
        };
        self.scripts.insert(sha.to_owned(), script);
        if origin == Origin::Eval {
            self.evaluated += 1;
        }
        match self.evaluated > MOST_EVALUATED {
            true => self.forget_oldest(),
            false => Ok(()),
        }
    }

    pub(super) fn function(&self, sha: &str) -> mlua::Result<Function> {
        self.functions.raw_get(sha)
    }

    /// Whether there are scripts that came by `EVAL` alone.
    pub(super) fn has_evaluated(&self) -> bool {
        self.evaluated > 0
    }

    /// Forgets half of the scripts that came by `EVAL` alone: the ones that were used longest ago.
    pub(super) fn forget_older_half(&mut self) -> mlua::Result<()> {
        let evaluated = self.scripts.iter().filter(|(_, script)| !script.was_loaded);
        let mut by_age: Vec<_> = evaluated
            .map(|(sha, script)| (script.last_use, sha.clone()))
            .collect();
        by_age.sort_unstable();
        let half = by_age.len().div_ceil(2);
        by_age
            .into_iter()
            .take(half)
            .try_for_each(|(_, sha)| self.forget(sha))
    }

    fn forget_oldest(&mut self) -> mlua::Result<()> {
        let evaluated = self.scripts.iter().filter(|(_, script)| !script.was_loaded);
        let oldest = evaluated.min_by_key(|(_, script)| script.last_use);
        match oldest.map(|(sha, _)| sha.clone()) {
            Some(sha) => self.forget(sha),
            None => Ok(()),
        }
    }

    /// Forgets a script that came by `EVAL` alone.
    fn forget(&mut self, sha: String) -> mlua::Result<()> {
        self.scripts.remove(&sha);
        self.evaluated -= 1;
        self.functions.raw_set(sha, mlua::Value::Nil)
    }
}
