"""
Frames as somebody may make them who says what is not so.
"""

from __future__ import annotations

import ipaddress
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
ANY = "0.0.0.0"


def mac(text: str) -> bytes:
    """@return: the 6 bytes of a MAC."""
    return bytes.fromhex(text.replace(":", ""))


def address(text: str) -> bytes:
    """@return: the 4 or 16 bytes of an address."""
    return ipaddress.ip_address(text).packed


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    """A frame."""
    return mac(target) + mac(source) + struct.pack("!H", kind) + payload


def arp(source: str, sender: str, holder: str = "", asked: str = "10.0.0.3", answer: bool = False) -> bytes:
    """
    That C{sender} is at C{holder} (the frame's source if empty), asking all
    who has C{asked}, or answering it.
    """
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2 if answer else 1)
    body = head + mac(holder or source) + address(sender) + bytes(6) + address(asked)
    return ethernet(source, BROADCAST, 0x0806, body)


def udp(source: str, target: str, sender: str, receiver: str, ports: tuple[int, int], data: bytes) -> bytes:
    """A datagram in IPv4, without a checksum of its own."""
    packet = struct.pack("!HHHH", *ports, 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(packet), 0, 0, 64, 17, 0) + address(sender) + address(receiver)
    return ethernet(source, target, 0x0800, head[:10] + struct.pack("!H", _sum(head)) + head[12:] + packet)


def icmpv6(source: str, target: str, sender: str, receiver: str, kind: int, body: bytes) -> bytes:
    """A message of this type."""
    packet = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = address(sender) + address(receiver) + struct.pack("!IHBB", len(packet), 0, 0, 58)
    packet = packet[:2] + struct.pack("!H", _sum(pseudo + packet)) + packet[4:]
    head = struct.pack("!IHBB", 6 << 28, len(packet), 58, 255) + address(sender) + address(receiver)
    return ethernet(source, target, 0x86DD, head + packet)


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
