//! [`TypeName`]: a type as programmers write it.

use std::fmt;

/// Displays a type's name, as [`std::any::type_name`] gives it, the way programmers write it: without
/// the paths of its parts.
///
/// ```
/// use redkit_core::TypeName;
///
/// let name = std::any::type_name::<Option<Vec<String>>>();
/// assert_eq!(TypeName(name).to_string(), "Option<Vec<String>>");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TypeName<'n>(pub &'n str);

impl fmt::Display for TypeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_in_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '{' | '}' | '#');
        for part in self.0.split_inclusive(|c| !is_in_path(c)) {
            let end = part.find(|c| !is_in_path(c)).unwrap_or(part.len());
            let (path, rest) = part.split_at(end);
            let name = path.rsplit_once("::").map_or(path, |(_, name)| name);
            write!(f, "{name}{rest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn types_are_named_as_they_are_written() {
        fn shown<T: ?Sized>() -> String {
            TypeName(std::any::type_name::<T>()).to_string()
        }
        assert_eq!(shown::<String>(), "String");
        assert_eq!(shown::<u8>(), "u8");
        assert_eq!(
            shown::<HashMap<String, [u8; 2]>>(),
            "HashMap<String, [u8; 2]>"
        );
        assert_eq!(
            shown::<(&str, Option<Box<dyn fmt::Debug>>)>(),
            "(&str, Option<Box<dyn Debug>>)"
        );
        assert_eq!(TypeName("bytes").to_string(), "bytes");
    }
}
