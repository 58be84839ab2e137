# shellcheck shell=bash
# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
# What the launch scripts share, which source this file: how they fail, how they show a command, where Ray's head is.

fail() {
    echo "error: $1" >&2
    exit 1
}

show() {
    printf '%q ' "$@"
    echo
}

# Arguments: an example, the settings.
require_experiment() {
    [[ " ${*:2}" == *" experiment="* ]] || fail "no experiment is named; add one, as in experiment=$1"
}

# The IPv4 address that packets leave by; hostname -I also lists bridges of containers and IPv6, in no useful order.
own_address() {
    local out listed
    out=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p' || true)
    listed=$(hostname -I | tr ' ' '\n' | grep -E '^[0-9]+(\.[0-9]+){3}$' |
        grep -Ev '^(127\.|169\.254\.|172\.(1[7-9]|2[0-9]|3[01])\.0\.1$)' || true)
    if [[ -z $listed || $'\n'$listed$'\n' == *$'\n'"$out"$'\n'* ]]; then echo "$out"; else head -n 1 <<<"$listed"; fi
}

# Sets ip and RAY_ADDRESS, for a head on this node. Arguments: its address, empty for HEAD_IP or the node's own; its port.
choose_head() {
    ip=${1:-${HEAD_IP:-$(own_address)}}
    [[ $ip =~ ^[0-9]+(\.[0-9]+){3}$ || $ip =~ ^[A-Za-z][A-Za-z0-9.-]*$ ]] ||
        fail "the head's address is '$ip', but an IPv4 address or a host's name is needed; give it as --ip 10.0.0.1"
    export RAY_ADDRESS=$ip:$2
}

# Ray starts a head that asks for the token wherever there is one, but connects with it only if told to.
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
