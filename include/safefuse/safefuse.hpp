// safefuse: everything but the opt-in headers (throwing.hpp).
#ifndef SAFEFUSE_SAFEFUSE_HPP
#define SAFEFUSE_SAFEFUSE_HPP

#include <safefuse/byte_source.hpp>
#include <safefuse/checkpoint.hpp>
#include <safefuse/checkpoint_writer.hpp>
#include <safefuse/config.hpp>
#include <safefuse/convert.hpp>
#include <safefuse/copy_plan.hpp>
#include <safefuse/dtype.hpp>
#include <safefuse/family.hpp>
#include <safefuse/fields.hpp>
#include <safefuse/fuse.hpp>
#include <safefuse/header.hpp>
#include <safefuse/huge_page_buffer.hpp>
#include <safefuse/layout.hpp>
#include <safefuse/layouts/engines.hpp>
#include <safefuse/layouts/families.hpp>
#include <safefuse/layouts/forms.hpp>
#include <safefuse/layouts/known.hpp>
#include <safefuse/mapped_file.hpp>
#include <safefuse/model_config.hpp>
#include <safefuse/plan.hpp>
#include <safefuse/printable.hpp>
#include <safefuse/rename.hpp>
#include <safefuse/repack.hpp>
#include <safefuse/replace.hpp>
#include <safefuse/result.hpp>
#include <safefuse/rewrite.hpp>
#include <safefuse/rewrite_plan.hpp>
#include <safefuse/scopes.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/shard_index.hpp>
#include <safefuse/slice.hpp>
#include <safefuse/tensor_file.hpp>
#include <safefuse/tensor_set.hpp>
#include <safefuse/tensor_traits.hpp>
#include <safefuse/tensor_view.hpp>
#include <safefuse/text.hpp>
#include <safefuse/version.hpp>
#include <safefuse/writer.hpp>

#endif
