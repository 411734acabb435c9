// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * classify_cgroup: a new cgroup whose path matches a selector is meshed, not ready, from its first instruction on: its
 * connects are refused until meshd has made it ready. meshd itself decides what matches; this only closes the gap between
 * mkdir and meshd's hearing of it.
 */
#include "include/mesh_lookup.h"

#define PATH_MAX_LENGTH 1024 /* what the tracepoint gives; '*' may stand for much, so paths are longer than patterns */
#define MATCH_STEPS_MAX (2 * PATH_MAX_LENGTH)

/*
 * Where matching stands, and the path of the cgroup at hand. Per CPU, as the path does not fit the stack, and as Linux 6.1
 * looks at a bpf_loop callback once: with what the stack holds at its first call, so that branches of later calls are
 * taken for dead and removed. What is in a map it does not know.
 */
struct path_text {
	__u32 in_pattern, in_path;
	__u32 star, after_star; /* where to go back to: one past the last '*', and the path position tried for it */
	__u32 has_star;
	__u32 result; /* 0: going on, or undecided after all steps; 1: matches; 2: does not */
	char text[PATH_MAX_LENGTH];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct path_text);
} mesh_path MESH_MAP;

struct match {
	const struct mesh_pattern *pattern;
	struct path_text *path;
};

static __always_inline bool go_back(struct path_text *at)
{
	if (!at->has_star)
		return false;
	if (at->after_star >= PATH_MAX_LENGTH || at->text[at->after_star] == '/' || !at->text[at->after_star])
		return false; /* '*' stays within one component */
	at->after_star += 1;
	at->in_path = at->after_star;
	at->in_pattern = at->star;
	return true;
}

/* One step of matching with a single point of return, which suffices as '*' does not cross a '/'. */
static long match_step(__u32 step, struct match *match)
{
	struct path_text *at = match->path;
	char wanted, given;

	if (at->in_pattern >= MESH_PATTERN_SIZE || at->in_path >= PATH_MAX_LENGTH) {
		at->result = 2;
		return 1;
	}
	wanted = match->pattern->text[at->in_pattern];
	given = at->text[at->in_path];
	if (wanted == '*') {
		at->has_star = true;
		at->star = ++at->in_pattern;
		at->after_star = at->in_path;
		return 0;
	}
	if (!wanted && !given) {
		at->result = 1;
		return 1;
	}
	if (wanted && wanted == given) {
		if (wanted == '/')
			at->has_star = false;
		at->in_pattern += 1;
		at->in_path += 1;
		return 0;
	}
	if (go_back(at))
		return 0;
	at->result = 2;
	return 1;
}

struct search {
	struct path_text *path;
	bool found;
};

static long try_pattern(__u32 index, struct search *search)
{
	struct mesh_pattern *pattern = bpf_map_lookup_elem(&mesh_patterns, &index);
	struct match match = {};

	if (!pattern || !pattern->length)
		return 1; /* patterns are kept without a gap */
	match.pattern = pattern;
	match.path = search->path;
	match.path->in_pattern = 0;
	match.path->in_path = 0;
	match.path->has_star = 0;
	match.path->result = 0;
	bpf_loop(MATCH_STEPS_MAX, match_step, &match, 0);
	search->found = match.path->result != 2; /* undecided: marked, as meshd takes off the mark where it is none */
	return search->found;
}

static __always_inline void report(__u64 id, enum mesh_event_kind kind)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = kind };

	event.at_ns = bpf_ktime_get_boot_ns();
	event.value = id;
	mesh_send_event(&event);
}

/* Hierarchies of version 1 have paths and ids of their own, which may be those of quite other cgroups in ours. */
static __always_inline bool is_version2(struct cgroup *group)
{
	return group->root->hierarchy_id == 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(mesh_cgmkdir, struct cgroup *group, const char *path)
{
	struct mesh_cgroup state = { .state = MESH_CGROUP_NOT_READY };
	struct search search = {};
	struct path_text *text;
	__u64 id = group->kn->id;
	__u32 zero = 0;
	long failed;

	if (!mesh_settings_now() || !is_version2(group))
		return 0;
	text = bpf_map_lookup_elem(&mesh_path, &zero);
	if (!text || bpf_probe_read_kernel_str(text->text, sizeof(text->text), path) < 0)
		return 0;
	search.path = text;
	bpf_loop(MESH_PATTERNS_MAX, try_pattern, &search, 0);
	if (!search.found)
		return 0;
	failed = bpf_map_update_elem(&mesh_cgroups, &id, &state, BPF_NOEXIST);
	if (failed && failed != -EEXIST)
		mesh_count(MESH_REASON_QUEUE_LIMIT);
	report(id, MESH_EVENT_CGROUP_MADE);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(mesh_cgrmdir, struct cgroup *group, const char *path)
{
	__u64 id = group->kn->id;

	if (mesh_settings_now() && is_version2(group) && bpf_map_lookup_elem(&mesh_cgroups, &id))
		report(id, MESH_EVENT_CGROUP_REMOVED);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
