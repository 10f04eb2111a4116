// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: forward declarations of its classes and enumerations. Parts, layouts and families are
// types that users write themselves, so they are not here. The opt-in headers declare their own
// types.
#ifndef SAFEFUSE_FWD_HPP
#define SAFEFUSE_FWD_HPP

#include <cstdint>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

// core
enum class errc : std::uint8_t;
struct failure;
template <class T>
class result;
template <class T>
class span;
template <class T>
class vector;
class text;
struct character;
struct by_index;
struct run_progress;
class progress_ref;

// tensor
enum class dtype : std::uint8_t;
enum class size_verdict : std::uint8_t;
enum class advice : std::uint8_t;
using shape_view = span<const std::uint64_t>;
struct tensor_spec;
class tensor_view;
struct named_tensor;
class tensor_list;
struct tensor_location;
struct by_spec;
struct by_name;
template <class Set>
class tensor_names;
class tensor_set_ref;
class memory_source;
struct axis_range;
class slice_runs;

// io
class mapped_file;
class positional_file;
class output_file;
class huge_page_buffer;
class file_identity;
enum class durability : std::uint8_t;

// format
struct read_options;
struct tensor_entry;
struct metadata_entry;
class header;
struct encoded_header;
struct encode_options;
struct series_name;
struct shard_entry;
class shard_index;

// layout: the data that layout types become
enum class field_role : std::uint8_t;
enum class direction : std::uint8_t;
struct field_form;
struct field_description;
struct field_suffix;
struct tensor_description;
struct layout_description;
struct rename_description;
class rename_list;
struct config_extent;
struct module_description;
struct family_description;

// plan
enum class scope_state : std::uint8_t;
struct copy_loop;
struct copy_block;
struct plan_output;
class copy_plan;
struct known_extent;
struct plan_options;
class plan_form;
struct tensor_origin;
struct model_tensor;
class model_tensors;
struct experts_scope;
class experts_scopes;

// detect
struct spelling_to_keep;
class stored_spelling;
struct unknown_experts;
template <class... Family>
struct family_list;

// read
class any_source;
template <class Source>
class tensor_file_view;
template <class Source>
class basic_tensor_file;
using tensor_file = basic_tensor_file<mapped_file>;
using positional_tensor_file = basic_tensor_file<positional_file>;
using any_tensor_file = basic_tensor_file<any_source>;
struct checkpoint_options;
struct checkpoint_note;
class checkpoint_report;
template <class Source>
class checkpoint_view;
template <class Source>
class basic_checkpoint;
using checkpoint = basic_checkpoint<mapped_file>;
using positional_checkpoint = basic_checkpoint<positional_file>;
using any_checkpoint = basic_checkpoint<any_source>;
struct model_config;

// run
struct collected_entries;
struct scale_block;
class dequantizer;

// write
class tensor_file_writer;
struct shard_split;
struct write_options;
struct fingerprint;
class checkpoint_outline;
class checkpoint_writer;
class rewrite_plan;
enum class sharing : std::uint8_t;
struct rewrite_options;
struct rewrite_summary;
enum class existing : std::uint8_t;
struct destination_options;
class checkpoint_destination;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
