#!/bin/sh
# Sets the policies of the cloud's queues on a running broker; safe to repeat.
# definitions.json has the same ones, for brokers that load definitions at start.
#
#   sh policy.sh [vhost]
set -eu
vhost=${1:-/}

# A message that is given back so often has killed its workers: the broker puts it among the dead letters.
# Services give a failing message up before that, by themselves and with the reason.
rabbitmqctl set_policy --vhost "$vhost" --apply-to queues --priority 1 fabric-delivery \
    '^(cloud|scheduler|compute|network|volume)(\..*)?$' \
    '{"delivery-limit": 10, "dead-letter-exchange": "fabric.dead"}'
