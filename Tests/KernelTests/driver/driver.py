#!/usr/bin/python3
"""Plays every role of KernelTests in one process: applications in workload cgroups, the mesh's sockets in theirs. A
socket belongs to the cgroup that it was made in, so the process moves before it makes one. Prints one JSON object."""
import json
import os
import socket
import struct
import sys
import time

import unusual
from play import (APPLICATION, LISTENER, MESH_SOL, ACCEPTED, PURPOSE, ROOT, TUNNEL, accepted_info, attempt, beat, dial,
                  disconnect, enter, listen, mesh_listener, present, receive_all, results, tcp)


def captures():
    for name, family, target, listener, only6 in [
        ("ipv4", socket.AF_INET, ("10.96.0.1", 80), listener4, False),
        ("ipv6", socket.AF_INET6, ("fd96::1", 80), listener4, False),
        ("ipv6_only", socket.AF_INET6, ("fd96::1", 80), listener6, True),
        ("mapped", socket.AF_INET6, ("::ffff:10.96.0.1", 80), listener4, False),
    ]:
        client = tcp(family)
        if only6:
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        code = attempt(lambda c=client, t=target: c.connect(t))
        results[name] = {"errno": code}
        if code == 0:
            connection, _ = listener.accept()
            results[name].update(accepted_info(connection), peer=client.getpeername()[0],
                                 own=client.getsockname()[0])
            connection.close()
        client.close()
    client = tcp()
    client.setblocking(False)
    results["non_blocking"] = {"errno": client.connect_ex(("10.96.0.1", 80))}
    connection, _ = listener4.accept()
    results["non_blocking"].update(accepted_info(connection))
    connection.close()
    client.close()


def refusals():
    results["unreachable"] = attempt(lambda: tcp().connect(("10.96.0.2", 80)))
    results["no_service_port"] = attempt(lambda: tcp().connect(("10.96.0.1", 81)))
    results["own_listener_dialled"] = attempt(lambda: tcp().connect(("127.77.0.1", 15001)))
    bound = tcp()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    results["bound_to_device"] = attempt(lambda: bound.connect(("10.96.0.1", 80)))
    results["mesh_port_bound"] = attempt(lambda: tcp().bind(("0.0.0.0", 15001)))
    results["service_port_bound"] = attempt(lambda: tcp().bind(("0.0.0.0", 15021)))
    results["other_port_bound"] = attempt(lambda: tcp().bind(("0.0.0.0", 8099)))
    foreign = None
    enter("w2")
    foreign = tcp()
    enter("w1")
    results["socket_of_another"] = attempt(lambda: foreign.connect(("10.96.0.1", 80)))
    enter("w3")
    results["not_ready"] = attempt(lambda: tcp().connect(("10.96.0.1", 80)))
    enter("w1")
    beat(listener4, 2)
    results["overloaded"] = attempt(lambda: tcp().connect(("10.96.0.1", 80)))
    time.sleep(2.6)
    results["stale"] = attempt(lambda: tcp().connect(("10.96.0.1", 80)))
    unusual.fail_open()
    beat(listener4)
    client = tcp()
    results["fresh_again"] = attempt(lambda: client.connect(("10.96.0.1", 80)))
    connection, _ = listener4.accept()
    connection.close()
    client.close()


def without_hand_over():
    enter("outside")
    client = tcp()
    client.connect(("127.77.0.1", 15001))
    connection, _ = listener4.accept()
    results["no_hand_over"] = attempt(lambda: connection.getsockopt(MESH_SOL, ACCEPTED, 136))
    results["accepted_given_a_purpose"] = attempt(
        lambda: connection.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", TUNNEL, 0)))
    disconnect(connection)
    results["accepted_used_to_dial"] = attempt(lambda: connection.connect(("10.9.0.2", 8080)))
    outside = tcp()
    results["option_outside_the_mesh"] = attempt(
        lambda: outside.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", LISTENER, 0)))
    enter("w1")


def presentation():
    enter("w2")
    application = listen(("10.9.0.2", 8080))
    made = dial(APPLICATION)
    results["purpose_twice"] = attempt(lambda: made.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", TUNNEL, 0)))
    results["present_loopback"] = attempt(lambda: present(made, "127.0.0.1", 1))
    results["present_multicast"] = attempt(lambda: present(made, "224.0.0.1", 1))
    present(made, "10.9.0.7", 5555)
    made.connect(("10.9.0.2", 8080))
    connection, address = application.accept()
    results["presented"] = {"accept": list(address), "peer": list(connection.getpeername()),
                            "own": list(connection.getsockname())}
    made.sendall(b"q" * 333)
    receive_all(connection, 333)
    connection.sendall(b"a" * 777)
    receive_all(made, 777)
    made.close()
    connection.recv(1)
    connection.close()
    results["dial_elsewhere"] = attempt(lambda: dial(APPLICATION).connect(("10.9.0.2", 8081)))
    results["dial_no_purpose"] = attempt(lambda: dial(LISTENER).connect(("10.9.0.2", 8080)))
    results["tunnel_to_node"] = attempt(lambda: dial(TUNNEL).connect(("10.9.0.3", 15008)))
    results["tunnel_elsewhere"] = attempt(lambda: dial(TUNNEL).connect(("10.9.0.2", 15008)))
    enter("w1")


def measured():
    client = tcp()
    client.connect(("10.96.0.1", 80))
    connection, _ = listener4.accept()
    client.sendall(b"x" * 100000)
    receive_all(connection, 100000)
    connection.sendall(b"y" * 501)
    receive_all(client, 501)
    time.sleep(0.2)
    results["live_port"] = client.getsockname()[1]
    print("live", flush=True)
    sys.stdin.readline()
    beat(listener4)
    client.shutdown(socket.SHUT_WR)
    connection.recv(1)
    connection.close()
    client.recv(1)
    client.close()

    client = tcp()
    client.connect(("10.96.0.1", 80))
    connection, _ = listener4.accept()
    client.sendall(b"z" * 10)
    receive_all(connection, 10)
    results["reset_port"] = client.getsockname()[1]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    time.sleep(0.1)
    client.close()


def classification():
    for name in ("made-later", "unrelated"):
        os.mkdir(f"{ROOT}/{name}")
    enter("made-later")
    results["made_later"] = attempt(lambda: tcp().connect(("10.96.0.1", 80)))
    enter("w1")


enter("sockets")
listener4 = mesh_listener(("127.77.0.1", 15001))
listener6 = mesh_listener(("::1", 15001), socket.AF_INET6)
enter("w1")
captures()
refusals()
without_hand_over()
beat(listener4)
presentation()
beat(listener4)
measured()
beat(listener4)
results["unknown_passes"] = attempt(lambda: tcp().connect(("10.9.0.1", 9)))
classification()
unusual.play(listener4, listener6)
print(json.dumps(results), flush=True)
