//! Services without a backend that say so.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use lb_lab::Forwarder;

use super::{LIMIT, Rig};
use crate::support::{NO_CHECK, PORT, Service, lab};

/// At once, to a client: long before it would send again.
const AT_ONCE: Duration = Duration::from_millis(900);

#[test]
fn clients_of_an_empty_service_are_refused_at_once() {
    let lab = lab(Forwarder::L2dsr, 0);
    let mut config = String::new();
    for &vip in &lab.options().vips {
        for protocol in ["tcp", "udp"] {
            let name = format!("{protocol}{}", if vip.is_ipv4() { 4 } else { 6 });
            let service = Service::new(Forwarder::L2dsr, &[vip])
                .text("name", &name)
                .text("protocol", protocol)
                .text("on_empty", "reject")
                .key("check", NO_CHECK);
            config += &service.to_string();
        }
    }
    let rig = Rig::new(lab, &config);
    let client = &rig.client().namespace;
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        let begin = Instant::now();
        let tcp = client.run(|| TcpStream::connect_timeout(&target, LIMIT)).unwrap();
        assert_eq!(
            tcp.expect_err("refused").kind(),
            ErrorKind::ConnectionRefused,
            "{target}"
        );
        assert!(begin.elapsed() < AT_ONCE, "{target}: {:?}", begin.elapsed());

        let from = SocketAddr::new(rig.client().address_like(vip), 0);
        let udp = client.run(|| UdpSocket::bind(from).unwrap()).unwrap();
        udp.connect(target).unwrap();
        udp.set_read_timeout(Some(LIMIT)).unwrap();
        let begin = Instant::now();
        udp.send(b"anybody?").unwrap();
        let refused = udp.recv(&mut [0; 64]).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{target}");
        assert!(begin.elapsed() < AT_ONCE, "{target}: {:?}", begin.elapsed());
    }
    assert_eq!(rig.count("rejected"), 4);
    assert_eq!(rig.drops(), []);
}
