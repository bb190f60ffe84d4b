//! The metrics of a process at `/metrics`.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The samples of one read: a name may occur several times, with different labels.
#[derive(Debug)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    /// As they are printed: `a="1",b="2"`.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads the metrics of the process at this HTTP address.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn read(address: &str) -> std::io::Result<Self> {
        Ok(Self::parse(&Self::text(address).await?))
    }

    /// The whole answer, with its head.
    ///
    /// # Errors
    /// When the process does not answer.
    pub async fn text(address: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let labels = labels.trim_end_matches('}').to_owned();
            Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
        });
        Self(samples.collect())
    }

    /// The sum of all samples of a name, whatever their labels; 0 when there is none yet.
    pub fn sum(&self, name: &str) -> u64 {
        self.of(name).sum::<f64>() as u64
    }

    /// The largest sample of a name.
    pub fn most(&self, name: &str) -> u64 {
        self.of(name).fold(0.0, f64::max) as u64
    }

    /// The sums of the samples of a name by the value of one label; samples without it are under the empty text.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == name) {
            let value = sample.labels.split(',').find_map(|pair| pair.strip_prefix(label)?.strip_prefix('='));
            *sums.entry(value.unwrap_or_default().trim_matches('"').to_owned()).or_default() += sample.value;
        }
        sums
    }

    fn of(&self, name: &str) -> impl Iterator<Item = f64> {
        self.0.iter().filter(move |sample| sample.name == name).map(|sample| sample.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_and_without_labels() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE a gauge\na 3\nb{x=\"1 2\"} 4\nb{x=\"2\"} 6.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!((metrics.sum("a"), metrics.sum("b"), metrics.most("b"), metrics.sum("c")), (3, 10, 6, 0));
        assert_eq!(metrics.by("b", "x"), BTreeMap::from([("1 2".to_owned(), 4.0), ("2".to_owned(), 6.5)]));
        assert_eq!(metrics.by("a", "x"), BTreeMap::from([(String::new(), 3.0)]));
    }
}
