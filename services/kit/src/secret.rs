//! Masks secrets in texts that are shown: settings, errors, log lines.
//!
//! A text is a value that may be one URL ([`masked_url`]), or a sentence that contains URLs ([`masked`]). A URL has
//! secrets in two places: the password before the `@`, and parameters such as `?password=`. A token may also stand
//! alone before the `@`. If the extent of a password is uncertain, more is masked.

use std::ops::Range;

use percent_encoding::percent_decode_str;

/// The text shown instead of a secret.
const MASK: &str = "********";
/// Parts of the names of secret parameters, in lower case.
const SECRET_NAMES: [&str; 6] = ["pass", "pwd", "secret", "token", "key", "credential"];
/// Characters that end a URL in a sentence.
const ENDS: [char; 7] = [' ', '\n', '\t', '"', '`', '<', '>'];
/// Characters that separate parameters.
const SEPARATORS: [char; 9] = ['?', '&', ';', ' ', '\n', '\t', '"', '`', ','];

/// Characters that end a parameter in a sentence.
const PARAMETER_ENDS: [char; 7] = ['&', ';', ' ', '\n', '\t', '"', '`'];

/// Schemes of URLs that name a file, and have no user.
const FILE_SCHEMES: [&str; 2] = ["sqlite", "file"];

/// A value with every secret replaced by `********`. If the value is a URL, all of it is one URL, whatever characters
/// it contains.
///
/// ```
/// use matricula_kit::secret::masked_url;
///
/// assert_eq!(masked_url("postgres://me:pa<ss@db/seats"), "postgres://me:********@db/seats");
/// assert_eq!(masked_url("postgres://db/seats?password=a b"), "postgres://db/seats?password=********");
/// ```
pub fn masked_url(value: &str) -> String {
    let mut secrets = secret_parameters(value, &['&']);
    secrets.extend(login(value));
    secrets.sort_by_key(|secret| secret.start);
    with_masks(value, secrets)
}

/// A text with its secrets replaced, which are in the order of their begins.
fn with_masks(text: &str, secrets: Vec<Range<usize>>) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    for secret in secrets {
        // Overlapping secrets get one mask.
        if secret.start > end || end == 0 {
            shown.push_str(&text[end..secret.start]);
            shown.push_str(MASK);
        }
        end = end.max(secret.end);
    }
    shown.push_str(&text[end..]);
    shown
}

/// The ranges of the values of secret parameters, `password=...`. A value ends at one of these characters.
fn secret_parameters(value: &str, ends: &[char]) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut at = 0;
    while let Some(length) = value[at..].find('=') {
        let (name, begin) = (&value[at..at + length], at + length + 1);
        at = begin;
        if name.rsplit(SEPARATORS).next().is_some_and(is_secret) {
            at = value[begin..].find(ends).map_or(value.len(), |length| begin + length);
            secrets.extend((begin < at).then_some(begin..at));
        }
    }
    secrets
}

/// The range of the secret of user and password. It ends at the last `@`, because a password may contain characters
/// that should have been encoded.
fn login(value: &str) -> Option<Range<usize>> {
    let begin = match value.split_once(':') {
        Some((scheme, _)) if FILE_SCHEMES.iter().any(|file| scheme.eq_ignore_ascii_case(file)) => return None,
        Some((scheme, rest)) if is_scheme(scheme) => {
            let slashes = rest.len() - rest.trim_start_matches('/').len();
            scheme.len() + 1 + slashes
        }
        _ => value.find("://")? + "://".len(),
    };
    let end = value.rfind('@').filter(|end| *end > begin)?;
    Some(begin + shown_of_login(&value[begin..end])..end)
}

/// Whether a text may be the scheme of a URL.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// How many bytes of `user:password` are shown: the user and its `:`. A user without a password may be a token, and is
/// masked.
fn shown_of_login(login: &str) -> usize {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%+".contains(&byte);
    match login.split_once(':') {
        Some((user, password)) if !password.is_empty() && user.bytes().all(is_plain) => user.len() + 1,
        _ => 0,
    }
}

/// A sentence with every secret of its URLs replaced by `********`.
///
/// ```
/// use matricula_kit::secret::masked;
///
/// assert_eq!(masked("can't reach postgres://me:s3cret@db/seats"), "can't reach postgres://me:********@db/seats");
/// ```
pub fn masked(text: &str) -> String {
    let text = with_masks(text, secret_parameters(text, &PARAMETER_ENDS));
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let end = after.find(ENDS).unwrap_or(after.len());
        shown.push_str(before);
        let is_file = FILE_SCHEMES.iter().any(|file| before.ends_with(&format!("{file}://")));
        shown.push_str(&if is_file { after[..end].to_owned() } else { login_masked(&after[..end]) });
        rest = &after[end..];
    }
    shown.push_str(rest);
    shown
}

/// The part after the scheme of a URL, without its password.
fn login_masked(url: &str) -> String {
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    let after = &url[authority.len()..];
    // A password may contain a `/`, `?` or `#` that should have been encoded. Then the `@` comes after the apparent
    // authority.
    let is_plain = authority.contains('@') || !after.contains('@');
    let (login, place) = match if is_plain { authority } else { url }.rsplit_once('@') {
        Some((login, _)) => (login, &url[login.len() + 1..]),
        None => return url.to_owned(),
    };
    format!("{}{MASK}@{place}", &login[..shown_of_login(login)])
}

/// Whether a parameter or setting with this name is a secret.
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

    /// Checks a value that is one URL as a whole.
    #[track_caller]
    fn check_url(url: &str, expected: &str) {
        assert_eq!(masked_url(url), expected);
        assert_eq!(masked_url(expected), expected, "a masked text does not change");
    }

    #[test]
    fn nothing_of_a_url_is_shown_that_may_belong_to_its_password() {
        check_url("postgres://me:s3cret@db/seats", "postgres://me:********@db/seats");
        for password in ["pa<ss", "pa>ss", "pa ss", "pa\"ss", "pa`ss", "pa\nss", "a@b/c", "1/b?c#d", "a:b", "a=b"] {
            check_url(&format!("postgres://me:{password}@db/x"), "postgres://me:********@db/x");
            check_url(&format!("postgres:me:{password}@db/x"), "postgres:me:********@db/x");
        }
        check_url("postgres://me:s3crets?key=x@db/x", "postgres://me:********");
        check_url("postgres://me:s3@db/x?password=two@three", "postgres://me:********");
        check_url("postgres://db/x?password=a:b@c", "postgres://********");
        check_url("postgres://:s3cret@db/seats", "postgres://:********@db/seats");
        check_url("me:s3cret@db/x", "me:********@db/x");
        check_url("http://a.example, http://me:s3cret@b.example", "http://********@b.example");
    }

    #[test]
    fn a_user_without_a_password_may_be_a_token() {
        check_url("http://s3cret@seats:7451", "http://********@seats:7451");
        check_url("http:/s3cret@seats:7451", "http:/********@seats:7451");
        check_url("http://s3cret:@seats:7451", "http://********@seats:7451");
        check("no way to http://s3cret@seats: later", "no way to http://********@seats: later");
        check("no way to http://s3cret:@seats: later", "no way to http://********@seats: later");
    }

    #[test]
    fn a_parameter_of_a_url_ends_at_the_next() {
        for secret in ["a;b", "a b", "a\"b", "a,b", "a`b", "a=b", "a?b", "a#b"] {
            check_url(&format!("postgres://db/x?password={secret}"), "postgres://db/x?password=********");
            check_url(&format!("db/x?a=b&password={secret}&c=d"), "db/x?a=b&password=********&c=d");
        }
        check_url("postgres://db/x?a=b;password=c d", "postgres://db/x?a=b;password=********");
        check_url("postgres://me:one@db/x?p%61ss=two", "postgres://me:********@db/x?p%61ss=********");
        check_url("postgres://db/x?password=", "postgres://db/x?password=");
    }

    #[test]
    fn passwords_before_the_host_are_hidden() {
        check("postgres://me:s3cret@db/seats", "postgres://me:********@db/seats");
        check("smtps://me:p%40ss@mail:465", "smtps://me:********@mail:465");
        check("postgres://:s3cret@db/seats", "postgres://:********@db/seats");
        check("postgres://me:a@b@db/seats", "postgres://me:********@db/seats");
        check("postgres://me:a:b@db/seats", "postgres://me:********@db/seats");
        // Characters that should have been encoded.
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
    fn other_texts_are_shown() {
        for text in [
            "",
            "sqlite:a.db",
            "sqlite:///data/a@b/x.db?mode=rw",
            "localhost:7450",
            "https://a.example, http://localhost:5173",
            "postgres://db:5432/x?application_name=seats",
            "postgres://db/x?sslmode=verify-full&options=-c%20geqo%3Doff",
            "http://127.0.0.1:7450",
            "Registrar <registrar@example.edu>",
            "info,sqlx=warn",
        ] {
            check(text, text);
            check_url(text, text);
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
