//! What a process says of itself at `/metrics`, and what the operating system says of its memory.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The samples of one look, by name without labels: a name may come several times.
#[derive(Debug)]
pub(crate) struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// Asks the process that serves HTTP there.
    pub(crate) async fn read(address: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(Self::parse(&answer))
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.split_once('{').map_or(name, |(name, _)| name);
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The sum of all samples of a name, whatever their labels; 0 when there is none yet.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.of(name).sum::<f64>() as u64
    }

    /// The largest sample of a name.
    pub(crate) fn most(&self, name: &str) -> u64 {
        self.of(name).fold(0.0, f64::max) as u64
    }

    fn of(&self, name: &str) -> impl Iterator<Item = f64> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// The most memory that a process has had in RAM, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives, on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells it");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of kB") / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_and_without_labels() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE a gauge\na 3\nb{x=\"1 2\"} 4\nb{x=\"2\"} 6.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!((metrics.sum("a"), metrics.sum("b"), metrics.most("b"), metrics.sum("c")), (3, 10, 6, 0));
    }
}
