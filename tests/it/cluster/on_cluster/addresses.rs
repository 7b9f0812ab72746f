//! A router that knows several nodes, and one of them hangs or is dead.

use super::*;

/// Within how long a node that hangs has to be noticed, and another one taken.
const NOTICED_MAX: Duration = Duration::from_secs(12);
/// Within how long a router that starts by the second node has to carry stops.
const START_PATIENCE: Duration = Duration::from_secs(12);
/// For so long a connection has to stand to be a good one.
const GOOD_AFTER: Duration = Duration::from_secs(31);

/// The URLs of those nodes, as `--amqp` takes them.
fn urls(cluster: &Cluster, vhost: &Vhost, nodes: [usize; 3]) -> String {
    nodes.map(|node| cluster.nodes[node].url(&vhost.name, "guest", "guest")).join(",")
}

/// Waits for a page of `/readyz` that is as asked; says how long after `since` it came.
async fn readyz(address: &str, since: Instant, asked: impl Fn(&str) -> bool) -> Duration {
    loop {
        let page = get(address, "/readyz").await;
        let after = since.elapsed();
        if asked(&page) {
            return after;
        }
        assert!(after < Duration::from_secs(60), "after {after:?}: {page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_leaves_a_node_that_hangs() {
    let Some(cluster) = Cluster::hold("the node of the router hangs") else { return };
    let vhost = cluster.nodes[1].vhost("leaves");
    let http = free_address();
    let dir = TempDir::new().expect("a directory");
    let router = Process::configured(&urls(&cluster, &vhost, [0, 1, 2]), dir, &["--http", &http]);
    router.ready(vhost.connect().await.as_ref()).await;
    let client = Client::at(&vhost.options().url).await;
    client.queue("innocent", "signal.#", &quorum()).await;
    let mut innocent = client.listen("innocent").await;
    let hanging = format!("\"amqp://{}/", cluster.nodes[0].socket_address());
    let is_ready = |page: &str| page.starts_with("HTTP/1.1 200 ");
    readyz(&http, Instant::now(), |page| is_ready(page) && page.contains(&hanging)).await;
    tokio::time::sleep(GOOD_AFTER).await;

    cluster.nodes[0].pause();
    let began = Instant::now();
    let noticed = readyz(&http, began, |page| !is_ready(page)).await;
    let left =
        readyz(&http, began, |page| page.contains("\"broker\":\"amqp") && !page.contains(&hanging)).await;
    client.publish(&stops("behind", 20)).await;
    // A queue that the hung node led has another leader once the others have noticed too.
    let heard = hear(&mut innocent, GAP_HUNG_MAX, |heard| keys(heard).len() == 20).await;
    let passed = began.elapsed();
    cluster.heal();

    eprintln!(
        "the router's node hung: noticed after {noticed:?}, at another after {left:?}, stops after {passed:?}"
    );
    assert!(noticed <= NOTICED_MAX && left <= NOTICED_MAX, "noticed {noticed:?}, left {left:?}");
    assert_eq!(keys(&heard).len(), 20, "stops by another node, after {passed:?}");
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_starts_by_whatever_node_is_there() {
    let Some(cluster) = Cluster::hold("the first nodes are away") else { return };
    let vhost = cluster.nodes[1].vhost("starts");
    let client = Client::at(&vhost.options().url).await;
    // Its queues are there from before, and led by a node that does not hang.
    let first = router(&vhost, TempDir::new().expect("a directory")).await;
    client.queue("innocent", "signal.#", &quorum()).await;
    let mut innocent = client.listen("innocent").await;
    let dir = first.stop().await;
    let urls = urls(&cluster, &vhost, [0, 2, 1]);
    let tool = |args: &[&str]| {
        let tool = std::process::Command::new(env!("CARGO_BIN_EXE_swarmgate")).args(args).output();
        let said = tool.expect("the tool runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (said.status.code(), text(&said.stdout), text(&said.stderr))
    };
    let node = |number: usize| format!("amqp://{}/", cluster.nodes[number].socket_address());

    cluster.nodes[0].pause();
    let http = free_address();
    let asked = Instant::now();
    let router = Process::configured(&urls, dir, &["--http", &http]);
    client.publish(&stops("early", 20)).await;
    let heard = hear(&mut innocent, START_PATIENCE, |heard| keys(heard).len() == 20).await;
    let took = asked.elapsed();
    let page = get(&http, "/readyz").await;
    let (_, found, _) = tool(&["doctor", "--amqp", &urls, "--set=amqp.connect_timeout_ms=1000"]);
    // Every node is named where none is there.
    let (one, two) = ("amqp://guest:canary@127.0.0.1:1/v", "amqp://guest:canary@127.0.0.1:2/v");
    let (code, _, told) = tool(&["tail", "--amqp", one, "--amqp", two]);
    cluster.heal();

    eprintln!("started while the first node hung: stops after {took:?}");
    assert_eq!(keys(&heard).len(), 20, "stops by another node, after {took:?}");
    assert!(page.contains(&format!("\"broker\":\"{}", node(2))), "{page}");
    let line = |word: &str, number| {
        let is_it =
            |line: &str| line.starts_with(word) && line.contains("node: ") && line.contains(&node(number));
        found.lines().any(is_it)
    };
    assert!(line("warn", 0) && line("ok", 1) && line("ok", 2), "{found}");
    assert_eq!(code, Some(4), "{told}");
    assert!(
        told.contains("`amqp://127.0.0.1:1/v`, `amqp://127.0.0.1:2/v`") && !told.contains("canary"),
        "{told}"
    );
    router.stop().await;
}
