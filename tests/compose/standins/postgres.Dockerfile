# In place of the official image where no registry can be reached: Debian's PostgreSQL, with the official variables.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libnss-wrapper postgresql-15 \
 && rm -rf /var/lib/apt/lists/* /etc/postgresql/15 \
 && chmod 3777 /var/run/postgresql
COPY postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
ENV LANG=C.UTF-8 PATH=/usr/lib/postgresql/15/bin:$PATH
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
