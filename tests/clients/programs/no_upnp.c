/* Stands in for libgupnp-igd, whose libsoup 3 makes Debian's whip-client, which is linked with
   libsoup 2, end at its start. libnice takes "none" for an answer and goes without UPnP. */

void *gupnp_simple_igd_thread_new(void) { return 0; }
unsigned long gupnp_simple_igd_get_type(void) { return 0; }
void gupnp_simple_igd_add_port(void) {}
void gupnp_simple_igd_remove_port_local(void) {}
