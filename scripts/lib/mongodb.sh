# shellcheck shell=bash
# A MongoDB for tests: a server of its wire protocol from PyPI, as Debian has none. Where there is a real one, its URL in
# MANGROVE_TEST_MONGODB takes its place.

MONGODB_PORT=${MONGODB_PORT:-27117}

# ensure_mongodb: guarantees that the server MANGROVE_TEST_MONGODB names answers; without a name, starts one that
# stop_mongodb ends. Its files are in the state folder.
ensure_mongodb() {
  if [[ -z ${MANGROVE_TEST_MONGODB:-} ]]; then
    start_mongodb
    export MANGROVE_TEST_MONGODB=mongodb://127.0.0.1:$MONGODB_PORT
  fi
  note "MongoDB for tests at ${MANGROVE_TEST_MONGODB##*@}"
}

start_mongodb() {
  local environment packages
  require_port mongodb "$MONGODB_PORT" "a MongoDB for tests"
  environment=$(python_environment mongodb nx-27017==0.8.1 'neosqlite==1.17.2' 'pymongo>=4.15,<5')
  packages=$(echo "$environment"/lib/python3*/site-packages)
  mkdir -p "$STATE_DIR/mongodb"
  # The interpreter itself and not the environment's link to it, which is not what runs then. With a folder every database
  # is a file of its own; without one they would share their collections.
  PYTHONPATH=$packages start mongodb "$environment/bin/python" -m nx_27017.nx_27017 --host 127.0.0.1 \
    --port "$MONGODB_PORT" --data-dir "$STATE_DIR/mongodb" --pid-file "$RUN_DIR/mongodb-server.pid" \
    --log-file "$RUN_DIR/mongodb-server.log"
  wait_until 30 "the MongoDB for tests answers at port $MONGODB_PORT" mongodb_answers || {
    show_log mongodb
    exit 1
  }
}

mongodb_answers() {
  must_run mongodb && (: <>"/dev/tcp/127.0.0.1/$MONGODB_PORT")
}

stop_mongodb() { stop mongodb; }
