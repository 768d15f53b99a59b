"""Breaks: takes the control plane away: what is left is what a worker has. About 10 s.

Must hold: `check` answers where `kubeadm certs check-expiration` refuses, and finds no fault; a broken identity is a
finding.
"""

from lib.command import figure


def test_check_answers_on_a_worker(node):
    for path in node.files.kubernetes.rglob("*"):
        inside = str(path.relative_to(node.files.kubernetes))
        if path.is_file() and inside not in ("kubelet.conf", "pki/ca.crt"):
            path.unlink()
    (node.files.kubernetes / "pki/etcd").rmdir()
    node.remove("/var/lib/etcd")
    node.remove("/root/kubeadm.yaml")
    node.start()

    kubeadm = node.run("kubeadm", "certs", "check-expiration", check=False)
    assert kubeadm.code != 0
    figure(f"kubeadm: {kubeadm.err.splitlines()[0]}")
    table = node.certwarden("check")
    assert table.code == 0
    assert "kubelet-client" in table.out
    check = node.certwarden("check", "-o", "json")
    names = [entry["name"] for entry in check.json["entries"]]
    assert (check.code, check.json["verdict"]) == (0, "ok")
    assert "kubelet-client" in names
    figure(f"entries: {' '.join(names)}")
    assert node.certwarden("plan", "--all").code in (0, 1)

    node.files.kubelet_link.unlink()
    node.files.kubelet_link.symlink_to("/var/lib/kubelet/pki/nowhere.pem")
    assert node.certwarden("check", "-o", "json").code == 2
    assert "dangling-symlink" in node.problems("kubelet-client")
