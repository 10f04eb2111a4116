// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: everything but the opt-in headers (core/throwing, run/convert, run/dequantize,
// run/parallel, run/staged, interop/*).
#ifndef SAFEFUSE_SAFEFUSE_HPP
#define SAFEFUSE_SAFEFUSE_HPP

#include <safefuse/core/config.hpp>
#include <safefuse/core/printable.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/core/version.hpp>
#include <safefuse/detect/detect.hpp>
#include <safefuse/detect/detect_experts.hpp>
#include <safefuse/detect/stored_spelling.hpp>
#include <safefuse/detect/unknown_experts.hpp>
#include <safefuse/format/header.hpp>
#include <safefuse/format/header_writer.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/huge_page_buffer.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/io/positional_file.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/layout/fields.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/layout/mapping.hpp>
#include <safefuse/layout/mapping_algebra.hpp>
#include <safefuse/layout/rename.hpp>
#include <safefuse/models/engines.hpp>
#include <safefuse/models/registry.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/engine.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/read/checkpoint_report.hpp>
#include <safefuse/read/model_config.hpp>
#include <safefuse/read/tensor_file.hpp>
#include <safefuse/run/compare_scales.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/slice.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_traits.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/checkpoint_files.hpp>
#include <safefuse/write/checkpoint_outline.hpp>
#include <safefuse/write/checkpoint_writer.hpp>
#include <safefuse/write/fingerprint.hpp>
#include <safefuse/write/progress.hpp>
#include <safefuse/write/repack.hpp>
#include <safefuse/write/replace.hpp>
#include <safefuse/write/rewrite.hpp>
#include <safefuse/write/rewrite_options.hpp>
#include <safefuse/write/rewrite_plan.hpp>
#include <safefuse/write/shard_split.hpp>
#include <safefuse/write/tensor_file_writer.hpp>
#include <safefuse/write/verify.hpp>

#endif
