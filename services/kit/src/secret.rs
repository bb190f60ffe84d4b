//! Hides secrets in texts that are shown: settings, errors, log lines.
//!
//! A text may be a URL, or a sentence with URLs in it. Two places of a URL hold secrets: the password before the `@`, and
//! parameters such as `?password=`. Where it is not certain what belongs to the password, more is hidden, never less.

use percent_encoding::percent_decode_str;

/// What is shown in the place of a secret.
const MASK: &str = "********";
/// Parts of the names of parameters whose values are secrets, in lower case.
const SECRET_NAMES: [&str; 6] = ["pass", "pwd", "secret", "token", "key", "credential"];
/// Characters at which a URL in a sentence ends.
const ENDS: [char; 7] = [' ', '\n', '\t', '"', '`', '<', '>'];
/// Characters between two parameters.
const SEPARATORS: [char; 9] = ['?', '&', ';', ' ', '\n', '\t', '"', '`', ','];

/// The text with every secret in it replaced by `********`.
///
/// ```
/// use matricula_kit::secret::masked;
///
/// assert_eq!(masked("postgres://me:s3cret@db/seats"), "postgres://me:********@db/seats");
/// assert_eq!(masked("postgres://me@db/seats?password=s3cret"), "postgres://me@db/seats?password=********");
/// ```
pub fn masked(text: &str) -> String {
    let text = parameters_masked(text);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let end = after.find(ENDS).unwrap_or(after.len());
        shown.push_str(before);
        shown.push_str(&login_masked(&after[..end]));
        rest = &after[end..];
    }
    shown.push_str(rest);
    shown
}

/// What follows the scheme of a URL, without its password.
fn login_masked(url: &str) -> String {
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    let after = &url[authority.len()..];
    // A password may have a `/`, `?` or `#` that ought to be encoded: then the `@` comes after what looks like the authority.
    let is_plain = authority.contains('@') || !after.contains('@');
    let (login, place) = match if is_plain { authority } else { url }.rsplit_once('@') {
        Some((login, _)) => (login, &url[login.len() + 1..]),
        None => return url.to_owned(),
    };
    match login.split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}@{place}"),
        None => url.to_owned(),
    }
}

/// The text with the values of secret parameters replaced: `password=...`, up to the next parameter or the end of the word.
fn parameters_masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, value) = (&rest[..equals], &rest[equals + 1..]);
        let name = before.rsplit(SEPARATORS).next().unwrap_or(before);
        let end = value.find(['&', ';', ' ', '\n', '\t', '"', '`']).unwrap_or(value.len());
        shown.push_str(&rest[..=equals]);
        if is_secret(name) && end > 0 {
            shown.push_str(MASK);
            rest = &value[end..];
        } else {
            rest = value;
        }
    }
    shown.push_str(rest);
    shown
}

/// Whether a parameter or a setting of this name holds a secret.
pub fn is_secret(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy().to_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(masked(text), expected);
    }

    #[test]
    fn passwords_before_the_host_are_hidden() {
        check("postgres://me:s3cret@db/seats", "postgres://me:********@db/seats");
        check("smtps://me:p%40ss@mail:465", "smtps://me:********@mail:465");
        check("postgres://:s3cret@db/seats", "postgres://:********@db/seats");
        check("postgres://me:a@b@db/seats", "postgres://me:********@db/seats");
        check("postgres://me:a:b@db/seats", "postgres://me:********@db/seats");
        // Characters that ought to be encoded.
        check("postgres://me:a/b@db/seats", "postgres://me:********@db/seats");
        check("postgres://me:1/b?c#d@db/seats", "postgres://me:********@db/seats");
    }

    #[test]
    fn secret_parameters_are_hidden_however_they_are_spelt() {
        check("postgres://db/x?user=me&password=s3cret", "postgres://db/x?user=me&password=********");
        check("postgres://db/x?password=a&sslmode=require", "postgres://db/x?password=********&sslmode=require");
        check("postgres://db/x?p%61ssword=s3cret", "postgres://db/x?p%61ssword=********");
        check("postgres://db/x?PASSWORD=s3cret", "postgres://db/x?PASSWORD=********");
        check("postgres://db/x?sslpassword=s3cret", "postgres://db/x?sslpassword=********");
        check("postgres://me:one@db/x?password=two@three", "postgres://me:********@db/x?password=********");
        check("authorization=Basic,api-key=s3cret", "authorization=Basic,api-key=********");
        check("host=db password=s3cret dbname=x", "host=db password=******** dbname=x");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in [
            "postgres://me@db/seats",
            "sqlite:a.db",
            "postgres://db:5432/x?application_name=seats",
            "postgres://db/x?sslmode=verify-full&options=-c%20geqo%3Doff",
            "http://127.0.0.1:7450",
            "Registrar <registrar@example.edu>",
            "info,sqlx=warn",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn urls_in_sentences_are_found() {
        check(
            "can't reach postgres://a:b@c/d, nor \"smtp://e:f@g\": later",
            "can't reach postgres://a:********@c/d, nor \"smtp://e:********@g\": later",
        );
    }
}
