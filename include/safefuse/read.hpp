// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: everything for reading: tensor files, checkpoints, shard indexes, and their views.
#ifndef SAFEFUSE_READ_HPP
#define SAFEFUSE_READ_HPP

#include <safefuse/core/config.hpp>
#include <safefuse/core/printable.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/core/version.hpp>
#include <safefuse/format/header.hpp>
#include <safefuse/format/header_writer.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/huge_page_buffer.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/io/positional_file.hpp>
#include <safefuse/read/any_source.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/read/checkpoint_report.hpp>
#include <safefuse/read/model_config.hpp>
#include <safefuse/read/tensor_file.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/slice.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_traits.hpp>
#include <safefuse/tensor/tensor_view.hpp>

#endif
