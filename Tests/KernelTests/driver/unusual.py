"""What KernelTests tries off the straight way: sockets that are used twice, odd addresses, crowds, nested cgroups, two
workloads on one port, somebody else in the mesh's place."""
import os
import socket
import subprocess

import egress
import names
from play import (APPLICATION, ROOT, SERVICE, SERVICE6, accepted_info, attempt, beat, dial, disconnect, enter, listen,
                  present, receive_all, results, tcp)

MPTCP = 262
LONG = f"pod-{'q' * 220}-x1b"


def captured(client, listener, target=SERVICE):
    """What the proxy learns of this client's connection."""
    code = attempt(lambda: client.connect(target))
    if code:
        return {"errno": code}
    connection, _ = listener.accept()
    facts = accepted_info(connection)
    facts.update(errno=0, peer=client.getpeername()[0], own=client.getsockname()[0])
    connection.close()
    return facts


def second_use(listener):
    server = listen(("127.0.0.1", 7777))
    client = tcp()
    captured(client, listener)
    disconnect(client)
    client.connect(("127.0.0.1", 7777))
    server.accept()[0].close()
    results["used_again"] = {"peer": list(client.getpeername()), "own": client.getsockname()[0]}
    client.close()
    server.close()


def addresses(listener4, listener6):
    client = tcp()
    client.bind(("10.9.0.1", 0))
    results["bound4"] = captured(client, listener4)
    client = tcp(socket.AF_INET6)
    client.bind(("fd99::1", 0))
    results["bound6"] = captured(client, listener6, SERVICE6)
    results["mptcp"] = captured(socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP), listener4)
    client = tcp()
    client.settimeout(None)  # a timeout makes the socket non-blocking, and then nothing is sent early
    results["fast_open"] = {"errno": attempt(lambda: client.sendto(b"early", socket.MSG_FASTOPEN, SERVICE))}
    if results["fast_open"]["errno"] == 0:
        connection, _ = listener4.accept()
        receive_all(connection, 5)
        results["fast_open"].update(accepted_info(connection))
        connection.close()
    client.close()
    client = tcp()
    client.bind(("127.77.0.1", 0))
    results["unspecified_dialled"] = attempt(lambda: client.connect(("0.0.0.0", 15001)))
    client.close()
    client = tcp(socket.AF_INET6)
    client.bind(("::1", 0))
    results["bound_to_loopback6"] = captured(client, listener6, SERVICE6)
    client.close()


def crowd(listener):
    """More connections at once than may wait for the proxy: it accepts none, and its queue holds 17."""
    clients, codes = [], []
    for _ in range(120):
        client = tcp()
        client.setblocking(False)
        codes.append(client.connect_ex(SERVICE))
        clients.append(client)
    results["crowd_refused"] = sum(1 for code in codes if code == 111)
    for client in clients:
        client.close()
    listener.settimeout(0.2)
    while attempt(lambda: listener.accept()[0].close()) == 0:
        pass
    listener.settimeout(3)


def uniqueness(listener):
    wrong = 0
    for _ in range(25):
        beat(listener)
        clients = {}
        for index in range(12):
            target = SERVICE6 if index % 2 else SERVICE
            client = tcp(socket.AF_INET6 if index % 2 else socket.AF_INET)
            client.connect(target)
            clients[client.getsockname()[1]] = (client, target[0])
        for _ in range(12):
            connection, address = listener.accept()
            facts = accepted_info(connection)
            client, target = clients.pop(address[1])
            wrong += facts["destination"] != target or facts["source_port"] != address[1]
            connection.close()
            client.close()
    results["handed_to_the_wrong"] = wrong


def nesting(listener):
    for name in ("child", "nested"):
        enter(f"w1/{name}")
        results[f"cgroup_{name}"] = captured(tcp(), listener)
    enter("w1/outside")
    results["cgroup_outside"] = attempt(lambda: tcp().connect(SERVICE))
    enter("w1")
    program = "import socket; socket.create_connection(('10.96.0.1', 80))"
    results["other_namespace"] = subprocess.run(
        ["unshare", "-n", "/usr/bin/python3", "-c", program], stderr=subprocess.DEVNULL, check=False).returncode


def port_conflict():
    enter("w2")
    first = listen(("10.9.0.2", 8081), shared=True)
    enter("w1")
    second = listen(("10.9.0.2", 8081), shared=True)
    second.close()
    older = older_listeners()
    connections = egress.older_connections()
    enter("outside")
    given = listen(("10.9.0.1", 8089))
    say(f"owners {os.fstat(connections[9102][0].fileno()).st_ino} {os.fstat(given.fileno()).st_ino}")
    given.close()
    enter("w1")
    egress.older_connections_found(connections)
    older["8082"].close()
    older["8083"].shutdown(socket.SHUT_RDWR)
    older["8083"].close()
    first.close()
    say("closed")
    for listener in older.values():
        listener.close()


def older_listeners():
    """In a cgroup that is no workload's yet."""
    enter("w5")
    made = {"8082": listen(("10.9.0.1", 8082)), "8083": listen(("::", 8083), socket.AF_INET6),
            "8084": listen(("0.0.0.0", 8084), shared=True), "8084 too": listen(("0.0.0.0", 8084), shared=True)}
    enter("w1")
    return made


def say(word):
    """Lets the scene look at the maps."""
    print(word, flush=True)
    input()


def presentation6():
    enter("w2")
    application = listen(("fd99::1", 8080), socket.AF_INET6)
    made = dial(APPLICATION, socket.AF_INET6)
    results["present_link_local"] = attempt(lambda: present(made, "fe80::1", 1))
    results["present_unspecified"] = attempt(lambda: present(made, "0.0.0.0", 1))
    present(made, "fd99::7", 6666)
    made.connect(("fd99::1", 8080))
    connection, address = application.accept()
    results["presented6"] = {"accept": list(address)[:2], "peer": list(connection.getpeername())[:2]}
    connection.sendall(b"first" * 11)
    connection.shutdown(socket.SHUT_WR)
    receive_all(made, 55)
    made.recv(1)
    made.sendall(b"then" * 4)
    made.close()
    receive_all(connection, 16)
    connection.recv(1)
    connection.close()
    application.close()
    enter("w1")


def classification():
    for name in ("pod-q-x1b", "pod-q-x1b/leaf", "pod-q-x1b/leaf2", "pod-x1", LONG, f"{LONG}/leaf"):
        os.mkdir(f"{ROOT}/{name}")
    # A hierarchy of version 1, where there is one, has the same paths and perhaps the same numbers.
    version1 = "/sys/fs/cgroup/freezer"
    if os.path.isdir(version1):
        above = f"{version1}/{os.path.basename(ROOT)}"
        for path in (above, f"{above}/made-elsewhere"):
            os.mkdir(path)
        for path in (f"{above}/made-elsewhere", above):
            os.rmdir(path)


def foreign_listener(listener):
    """Root outside the node's cgroups listens in the mesh's place, once its listener is gone."""
    listener.close()
    enter("..")
    foreign = listen(("127.77.0.1", 15001))
    enter("w1")
    results["foreign_listener"] = attempt(lambda: tcp().connect(SERVICE))
    foreign.setblocking(False)
    results["foreign_accepts"] = attempt(foreign.accept)
    foreign.close()


def fail_open():
    """Called while the proxy's beat is stale."""
    enter("outside")  # as if on another node, where no workload listens for this one to judge
    server = listen(("10.9.0.2", 8090))
    enter("w4")
    client = tcp()
    results["failed_open"] = attempt(lambda: client.connect(("10.9.0.2", 8090)))
    results["failed_open_service"] = attempt(lambda: tcp().connect(SERVICE))
    client.close()
    server.close()
    enter("w1")


def play(listener4, listener6):
    beat(listener4)
    beat(listener6)
    second_use(listener4)
    addresses(listener4, listener6)
    beat(listener4)
    crowd(listener4)
    beat(listener4)
    uniqueness(listener4)
    beat(listener4)
    nesting(listener4)
    presentation6()
    beat(listener4)
    egress.play(listener4)
    beat(listener4)
    names.play(listener4)
    beat(listener4)
    classification()
    listener6.close()
    client = tcp(socket.AF_INET6)
    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    results["no_listener"] = attempt(lambda: client.connect(SERVICE6))
    port_conflict()
    foreign_listener(listener4)
