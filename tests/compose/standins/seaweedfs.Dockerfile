# In place of SeaweedFS where no registry can be reached: OpenStack Swift with its S3 interface. `weed` reads the
# identity from the same s3.json and listens on the same port.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends swift-account swift-container swift-object swift-proxy \
 && rm -rf /var/lib/apt/lists/* /etc/swift \
 && ln -s /tmp/swift /etc/swift \
 && useradd --uid 10001 --no-create-home weed
RUN mkdir /opt/rings && cd /opt/rings \
 && for ring in account:6201 container:6202 object:6203; do \
        swift-ring-builder "${ring%:*}.builder" create 4 1 0 \
     && swift-ring-builder "${ring%:*}.builder" add "r1z1-127.0.0.1:${ring#*:}/d1" 1 \
     && swift-ring-builder "${ring%:*}.builder" rebalance || exit 1; \
    done
COPY swift_keys.py /usr/lib/python3/dist-packages/
COPY weed.py /usr/local/bin/weed
